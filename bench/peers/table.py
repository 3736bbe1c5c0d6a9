"""The records of compare.py as markdown: medians, then xmc over each peer."""

import statistics

TRAIN = {"cpu_s": "CPU s", "wall_s": "wall s", "peak_rss_mb": "peak RSS MB", "model_mb": "model MB"}
QUALITY = ["P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5", "nDCG@5"]
SPEED = {
    "docs_per_cpu_s": "docs per CPU s",
    "docs_per_wall_s": "docs per s",
    "cpu_p50_ms": "1-doc CPU p50 ms",
    "cpu_p99_ms": "p99",
    "wall_p50_ms": "1-doc wall p50 ms",
    "wall_p99_ms": "p99",
    "load_s": "load s",
    "peak_rss_mb": "RSS MB",
}
# Whom each of our programs is held against.
RIVALS = {"xmc": ["libpecos", "omikuji-1", "napkinxc"], "xmc-3": ["omikuji-3"]}


def medians(records, mode, figures):
    """{(program, layout, threads): {figure: median}} of one data folder."""
    groups = {}
    for r in (r for r in records if r["mode"] == mode):
        groups.setdefault((r["program"], r.get("layout", ""), r["threads"]), []).append(r)
    return {
        key: {f: statistics.median(r[f] for r in group if f in r) for f in figures if any(f in r for r in group)}
        for key, group in groups.items()
    }


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratios(train, predict):
    """Our figure over the rival's: the best layout of libpecos for speed, its default layout for loading."""
    for ours, rivals in RIVALS.items():
        for threads in sorted({key[2] for key in train}):
            for rival in rivals:
                if (ours, "", threads) not in train or (rival, "", threads) not in train:
                    continue
                a, b = train[ours, "", threads], train[rival, "", threads]
                row = [f"{ours} / {rival}", str(threads)]
                row += [number(a[f] / b[f]) for f in TRAIN]
                a = predict.get((ours, "", threads), {})
                layouts = [v for (program, _, t), v in predict.items() if (program, t) == (rival, threads)]
                for figure, best in (("docs_per_cpu_s", max), ("cpu_p50_ms", min), ("load_s", next)):
                    rated = figure in a and layouts
                    row.append(number(a[figure] / best(v[figure] for v in layouts)) if rated else "–")
                for figure in ("P@1", "P@5", "PSP@5"):
                    rated = figure in a and layouts
                    row.append(f"{a[figure] - layouts[0][figure]:+.2f}" if rated else "–")
                yield row


def tables(records):
    parts = []
    for data in dict.fromkeys(r["data"] for r in records):
        mine = [r for r in records if r["data"] == data]
        train = medians(mine, "train", TRAIN)
        predict = medians(mine, "predict", [*QUALITY, *SPEED])
        parts.append(f"### {data}\n\nTraining\n")
        rows = [[p, str(t), *(number(v.get(f)) for f in TRAIN)] for (p, _, t), v in train.items()]
        parts.append(markdown(["program", "threads", *TRAIN.values()], rows))
        parts.append("\nPrediction\n")
        rows = [
            [p, layout.lower(), str(t), *(number(v.get(f)) for f in [*QUALITY, *SPEED])]
            for (p, layout, t), v in predict.items()
        ]
        parts.append(markdown(["program", "layout", "threads", *QUALITY, *SPEED.values()], rows))
        rows = list(ratios(train, predict))
        if rows:
            head = ["ratio", "threads", *TRAIN.values(), "docs per CPU s", "1-doc CPU p50", "load"]
            parts.append("\nxmc over its peers (differences in points for P and PSP)\n")
            parts.append(markdown([*head, "ΔP@1", "ΔP@5", "ΔPSP@5"], rows))
        parts.append("")
    return "\n".join(parts)
