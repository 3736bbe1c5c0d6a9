//! How does a model expect a chat to be written? As the template in its files says, a program in the language Jinja; it is run
//! once, and what it writes before and behind a user's words serves for all.

use minijinja::{Environment, context};

use crate::error::{Error, Result};

/// What stands for a user's words; no template will write it by itself.
const MARK: &str = "\u{1}words of the user\u{1}";

/// Text around a user's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    /// What stands before them.
    pub before: String,
    /// What stands behind, up to where the answer begins.
    pub behind: String,
}

impl Chat {
    /// Runs `template`, with the texts of the tokens that begin and end a text.
    ///
    /// # Errors
    /// If it cannot be run, or the words are not in what it writes.
    pub fn new(template: &str, [begin, end]: [&str; 2]) -> Result<Self> {
        let fail = |problem: String| {
            Error::Mismatch(format!(
                "the decoder's chat template cannot be used ({problem}): write a template with `chat = false`, and the words \
                 around a chat in its parts"
            ))
        };
        let mut jinja = Environment::new();
        // As the library of the models' makers runs them.
        jinja.set_trim_blocks(true);
        jinja.set_lstrip_blocks(true);
        jinja.add_function("raise_exception", |problem: String| -> std::result::Result<String, _> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, problem))
        });
        let messages = [context! { role => "user", content => MARK }];
        let written = jinja
            .render_str(
                template,
                context! { messages, add_generation_prompt => true, bos_token => begin, eos_token => end },
            )
            .map_err(|e| fail(e.to_string()))?;
        let (before, behind) =
            written.split_once(MARK).ok_or_else(|| fail("it leaves out what is said".to_owned()))?;
        Ok(Chat { before: before.to_owned(), behind: behind.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_stands_in_the_words_of_its_template() {
        let template = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
            {{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}\
            {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
            {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        let chat = Chat::new(template, ["", ""]).unwrap();
        assert_eq!(chat.before, "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\n");
        assert_eq!(chat.behind, "<|im_end|>\n<|im_start|>assistant\n");
        let llama =
            "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] | trim }} [/INST]{% endfor %}";
        assert_eq!(Chat::new(llama, ["<s>", "</s>"]).unwrap().before, "<s>[INST] ");
    }

    #[test]
    fn what_cannot_be_run_is_said() {
        for (template, expected) in [
            ("{% for %}", "cannot be used"),
            ("hello", "leaves out what is said"),
            ("{{ raise_exception('only pairs') }}", "only pairs"),
        ] {
            let problem = Chat::new(template, ["", ""]).unwrap_err().to_string();
            assert!(problem.contains(expected) && problem.contains("chat = false"), "{problem}");
        }
    }
}
