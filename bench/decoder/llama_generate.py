"""Greedy continuations by llama.cpp, for comparison: so many prompts at a time, all of them up to the last token.

Uses the C interface that llama-cpp-python wraps: one decode call a step with a token of every sequence, llama.cpp's own
greedy sampler. The clock runs over prompts and new tokens. Prints one JSON object.
"""

import argparse
import json
import resource
import time

import llama_cpp as cpp


class Context:
    def __init__(self, path, slots, length, threads, repack):
        cpp.llama_backend_init()
        self.log = cpp.llama_log_callback(lambda level, text, data: None)
        cpp.llama_log_set(self.log, None)
        model = cpp.llama_model_default_params()
        model.n_gpu_layers = 0
        model.use_extra_bufts = repack
        self.model = cpp.llama_model_load_from_file(path.encode(), model)
        params = cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = slots * length, slots
        params.n_batch = params.n_ubatch = slots * length
        params.n_threads = params.n_threads_batch = threads
        self.context = cpp.llama_init_from_model(self.model, params)
        self.batch = cpp.llama_batch_init(slots * length, 0, 1)
        self.sampler = cpp.llama_sampler_chain_init(cpp.llama_sampler_chain_default_params())
        cpp.llama_sampler_chain_add(self.sampler, cpp.llama_sampler_init_greedy())

    def decode(self, rows):
        """Rows of (sequence, first position, ids); the next id of each."""
        batch, n, last = self.batch, 0, []
        for sequence, first, ids in rows:
            for i, token in enumerate(ids):
                batch.token[n], batch.pos[n] = token, first + i
                batch.n_seq_id[n], batch.seq_id[n][0] = 1, sequence
                batch.logits[n] = i + 1 == len(ids)
                n += 1
            last.append(n - 1)
        batch.n_tokens = n
        if cpp.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")
        return [cpp.llama_sampler_sample(self.sampler, self.context, i) for i in last]

    def run(self, prompts, new):
        cpp.llama_memory_clear(cpp.llama_get_memory(self.context), True)
        found = [[token] for token in self.decode([(i, 0, ids) for i, ids in enumerate(prompts)])]
        for _ in range(new - 1):
            rows = [(i, len(ids) + len(found[i]) - 1, found[i][-1:]) for i, ids in enumerate(prompts)]
            for ids, token in zip(found, self.decode(rows)):
                ids.append(token)
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--ids", required=True)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-repack", action="store_true", help="leave weights as they are, without AMX")
    args = parser.parse_args()
    with open(args.ids) as lines:
        prompts = [json.loads(line) for line in lines]
    context = Context(args.file, args.slots, max(map(len, prompts)) + args.new, args.threads, not args.no_repack)
    context.run(prompts[: args.slots], 2)  # warms up
    begin, begin_cpu = time.perf_counter(), time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
    found = []
    for start in range(0, len(prompts), args.slots):
        found += context.run(prompts[start : start + args.slots], args.new)
    seconds = time.perf_counter() - begin
    cpu_seconds = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) - begin_cpu
    tokens = args.new * len(prompts)
    print(json.dumps({
        "found": [{"ids": ids} for ids in found], "tokens": tokens, "seconds": seconds, "cpu_seconds": cpu_seconds,
        "tokens_per_second": tokens / seconds, "tokens_per_cpu_second": tokens / cpu_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


if __name__ == "__main__":
    main()
