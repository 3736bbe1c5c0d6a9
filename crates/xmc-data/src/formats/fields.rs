//! Which fields of a table or a JSON object hold the text and the labels, and how is a field of labels cut?
//!
//! Told by name, or guessed: by the names that data sets use, then by the look of the values. A guess is reported as a
//! [`Guess`], so that a user can see and overrule it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// A heading that belongs in front of the body of a text.
const TITLES: &[&str] = &["title", "headline"];
/// Usual names for the body, most telling first.
const BODIES: &[&str] = &[
    "text",
    "content",
    "body",
    "abstract",
    "description",
    "document",
    "summary",
    "sentence",
    "query",
    "question",
    "review",
];
/// Usual names for the labels, most telling first.
const LABELS: &[&str] = &[
    "labels",
    "target_ind",
    "label",
    "tags",
    "categories",
    "subjects",
    "topics",
    "keywords",
    "classes",
    "targets",
    "codes",
    "genres",
    "tag",
    "category",
    "subject",
    "topic",
    "class",
    "target",
    "code",
    "genre",
];
/// Records looked at before a guess is made.
pub(crate) const SAMPLE: usize = 1000;
/// Share of rows with several labels below which a sign between them is taken for part of a name.
const MIN_SHARE: f64 = 0.02;

/// What the user says about the fields; everything left out is guessed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldOptions {
    /// Columns or keys that make up the text, joined by blanks in this order.
    pub text: Vec<String>,
    /// Column or key of the labels.
    pub labels: Option<String>,
    /// What stands between two labels of a row.
    pub separator: Option<String>,
    /// Whether the first line of a table names its columns.
    pub header: Option<bool>,
}

/// One row of a file of texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The text, its parts joined by blanks.
    pub text: String,
    /// Label names with their weights, in the order of the file.
    pub labels: Vec<(String, f32)>,
}

/// How a file was understood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// The file.
    pub file: PathBuf,
    /// Name of its format.
    pub format: &'static str,
    /// Columns or keys of the text; empty for files of features.
    pub text: Vec<String>,
    /// Column or key of the labels.
    pub labels: Option<String>,
    /// What stands between labels; `None` where the format itself says it, or if each row has one.
    pub separator: Option<String>,
}

impl std::fmt::Display for Guess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.format)?;
        if !self.text.is_empty() {
            write!(f, ", text `{}`", self.text.join("` + `"))?;
        }
        if let Some(labels) = &self.labels {
            write!(f, ", labels `{labels}`")?;
        }
        match &self.separator {
            Some(separator) => write!(f, ", separator `{}`", separator.escape_debug()),
            None => Ok(()),
        }
    }
}

/// Positions of the text fields and of the label field among `names`; `prose` says how much text each holds,
/// consulted if there are just two fields with names that say nothing.
pub(crate) fn choose(
    path: &Path,
    names: &[String],
    prose: &[usize],
    options: &FieldOptions,
) -> Result<(Vec<usize>, usize)> {
    let position = |wanted: &str| names.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted));
    let asked = |key: &str, wanted: &str| {
        position(wanted).ok_or_else(|| {
            Error::config(key, wanted, format!("one of {} in {}", list(names), path.display()))
        })
    };
    let text = options.text.iter().map(|name| asked("text", name)).collect::<Result<Vec<_>>>()?;
    let labels = options.labels.as_ref().map(|name| asked("labels", name)).transpose()?;
    let known = |wanted: &[&str], taken: &[usize]| {
        wanted.iter().filter_map(|name| position(name)).find(|at| !taken.contains(at))
    };
    let labels = labels.or_else(|| known(LABELS, &text));
    let text = if text.is_empty() {
        let taken: Vec<usize> = labels.into_iter().collect();
        known(TITLES, &taken).into_iter().chain(known(BODIES, &taken)).collect()
    } else {
        text
    };
    match (text.is_empty(), labels) {
        (false, Some(labels)) => Ok((text, labels)),
        // Two fields: the one left over, or the longer one is the text.
        (true, Some(labels)) if names.len() == 2 => Ok((vec![1 - labels], labels)),
        (false, None) if names.len() == 2 && text.len() == 1 => Ok((text.clone(), 1 - text[0].min(1))),
        (true, None) if names.len() == 2 => {
            let long = usize::from(prose.get(1) > prose.first());
            Ok((vec![long], 1 - long))
        }
        (no_text, _) => {
            let what = if no_text { "text" } else { "labels" };
            let problem = format!(
                "no field with a usual name for the {what} among {}: say it with `xmc import --{what} NAME`",
                list(names)
            );
            Err(Error::file(path, problem))
        }
    }
}

/// Whether the first line of a table names its columns: it holds a usual name or one that was asked for.
pub(crate) fn is_header(fields: &[String], options: &FieldOptions) -> bool {
    let usual = [TITLES, BODIES, LABELS].concat();
    let asked = options.text.iter().chain(&options.labels).map(String::as_str);
    let names: Vec<&str> = asked.chain(usual).collect();
    fields.iter().any(|field| names.iter().any(|name| field.trim().eq_ignore_ascii_case(name)))
}

/// Numbers, lists of them and bracketed identifiers (`<http://…>`) are labels wherever they stand.
fn is_id(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_digit() || c == ',') || (word.starts_with('<') && word.ends_with('>'))
}

/// Bytes of a field that can be prose.
pub(crate) fn prose(field: &str) -> usize {
    field.split_whitespace().filter(|word| !is_id(word)).map(str::len).sum()
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// How a text field is cut into labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Separator {
    /// One label a row.
    Whole,
    /// This text between labels.
    Text(String),
    /// Any run of white space between labels.
    Blank,
    /// A list as Python or JSON writes it: `['a', "b"]`.
    List,
}

impl Separator {
    /// What the user asked for.
    pub(crate) fn given(text: &str) -> Result<Self> {
        match text {
            "" => Err(Error::config("separator", "", "some text, such as `;`")),
            " " => Ok(Separator::Blank),
            "\\t" => Ok(Separator::Text("\t".into())),
            text => Ok(Separator::Text(text.into())),
        }
    }

    /// What a sample of label fields looks like.
    pub(crate) fn guess<'a>(fields: impl Iterator<Item = &'a str> + Clone) -> Self {
        let fields = fields.map(str::trim).filter(|field| !field.is_empty());
        let count = fields.clone().count();
        let share =
            |test: &dyn Fn(&str) -> bool| fields.clone().filter(|f| test(f)).count() as f64 / count as f64;
        if count == 0 {
            return Separator::Whole;
        }
        if share(&|field| field.starts_with('[') && field.ends_with(']')) > 0.9 {
            return Separator::List;
        }
        if let Some(sign) =
            [";", "|", ","].into_iter().find(|sign| share(&|field| field.contains(sign)) >= MIN_SHARE)
        {
            return Separator::Text(sign.into());
        }
        // Names have blanks inside, identifiers do not.
        let is_id =
            |word: &str| word.parse::<u64>().is_ok() || (word.starts_with('<') && word.ends_with('>'));
        if share(&|field| field.split_whitespace().all(is_id)) == 1.0 {
            Separator::Blank
        } else {
            Separator::Whole
        }
    }

    /// As a user would name it.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Separator::Whole => None,
            Separator::Text(text) => Some(text.clone()),
            Separator::Blank => Some(" ".into()),
            Separator::List => Some("[…]".into()),
        }
    }

    /// Appends the labels of a field, trimmed, empty ones left out.
    pub(crate) fn split(&self, field: &str, labels: &mut Vec<(String, f32)>) {
        let mut push = |label: &str| {
            let label = label.trim();
            if !label.is_empty() {
                labels.push((label.to_owned(), 1.0));
            }
        };
        match self {
            Separator::Whole => push(field),
            Separator::Text(separator) => field.split(separator.as_str()).for_each(push),
            Separator::Blank => field.split_whitespace().for_each(push),
            Separator::List => list_items(field).iter().for_each(|item| push(item)),
        }
    }
}

/// Items of `['a', "b", c]`: quoted with either quote and backslash escapes, or bare.
fn list_items(field: &str) -> Vec<String> {
    let field = field.trim();
    let inner = field.strip_prefix('[').unwrap_or(field);
    let mut letters = inner.strip_suffix(']').unwrap_or(inner).chars();
    let (mut items, mut item, mut quote) = (Vec::new(), String::new(), None);
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', Some(_)) => item.extend(letters.next()),
            (end, Some(start)) if end == start => quote = None,
            ('\'' | '"', None) if item.trim().is_empty() => {
                item.clear();
                quote = Some(letter);
            }
            (',', None) => items.push(std::mem::take(&mut item)),
            (other, _) => item.push(other),
        }
    }
    items.push(item);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(separator: &Separator, field: &str) -> Vec<String> {
        let mut labels = Vec::new();
        separator.split(field, &mut labels);
        labels.into_iter().map(|(name, _)| name).collect()
    }

    fn chosen(names: &[&str], prose: &[usize]) -> Result<(Vec<usize>, usize)> {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        choose(Path::new("a.csv"), &names, prose, &FieldOptions::default())
    }

    #[test]
    fn usual_names_are_found_and_a_title_stands_before_the_body() {
        assert_eq!(chosen(&["id", "Abstract", "Title", "Tags"], &[]).unwrap(), (vec![2, 1], 3));
        assert_eq!(chosen(&["label", "text"], &[]).unwrap(), (vec![1], 0));
        assert_eq!(chosen(&["tags", "what"], &[]).unwrap(), (vec![1], 0));
        assert_eq!(chosen(&["text", "what"], &[]).unwrap(), (vec![0], 1));
    }

    #[test]
    fn of_two_nameless_fields_the_longer_is_the_text() {
        assert_eq!(chosen(&["1", "2"], &[50, 4]).unwrap(), (vec![0], 1));
        assert_eq!(chosen(&["1", "2"], &[5, 40]).unwrap(), (vec![1], 0));
    }

    #[test]
    fn fields_that_say_nothing_are_listed() {
        let message = chosen(&["a", "b", "c"], &[]).unwrap_err().to_string();
        assert!(
            message.contains("for the text among `a`, `b`, `c`: say it with `xmc import --text NAME`"),
            "{message}"
        );
        let message = chosen(&["text", "b", "c"], &[]).unwrap_err().to_string();
        assert!(message.contains("for the labels among"), "{message}");
    }

    #[test]
    fn separators_are_guessed_from_the_look_of_the_fields() {
        let guess = |fields: &[&str]| Separator::guess(fields.iter().copied());
        assert_eq!(guess(&["Smith, John; sea", "", "mountain"]), Separator::Text(";".into()));
        assert_eq!(guess(&["a|b", "c"]), Separator::Text("|".into()));
        assert_eq!(guess(&["1,2", "3"]), Separator::Text(",".into()));
        assert_eq!(guess(&["1 2", "3"]), Separator::Blank);
        assert_eq!(guess(&["<http://a/1> <http://a/2>"]), Separator::Blank);
        assert_eq!(guess(&["new york", "sea"]), Separator::Whole);
        assert_eq!(guess(&["['a', 'b']", "[]"]), Separator::List);
        assert_eq!(guess(&["", ""]), Separator::Whole);
    }

    #[test]
    fn fields_are_cut_and_trimmed() {
        assert_eq!(split(&Separator::Text(";".into()), " a ;; b c;"), ["a", "b c"]);
        assert_eq!(split(&Separator::Whole, " new york "), ["new york"]);
        assert_eq!(split(&Separator::List, r#"['it\'s, a', "b", 3]"#), ["it's, a", "b", "3"]);
        assert!(split(&Separator::List, "[]").is_empty());
    }
}
