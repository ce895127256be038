//! Asks for missing settings, on a terminal.

use std::{
    fmt::Display,
    io::{self, BufRead, IsTerminal, Write},
    str::FromStr,
};

use super::InstallError;
use crate::terminal::{Language, localized};

/// A terminal to ask on, or none.
pub(super) struct TerminalPrompt {
    person: Option<(Box<dyn BufRead>, Box<dyn Write>)>,
    /// Without a terminal, defaults are used.
    pub(super) defaults: bool,
}

impl TerminalPrompt {
    pub(super) fn of_terminal(yes: bool) -> Self {
        let there = !yes && io::stdin().is_terminal();
        let person = there.then(|| -> (Box<dyn BufRead>, Box<dyn Write>) {
            (Box::new(io::stdin().lock()), Box::new(io::stdout()))
        });
        Self { person, defaults: yes }
    }

    /// Returns the answer, or the default for an empty one; asks again until it is valid.
    /// None without a terminal.
    pub(super) fn ask<T: FromStr + Display>(
        &mut self,
        question: &str,
        default: &T,
    ) -> Result<Option<T>, InstallError>
    where
        T::Err: Display,
    {
        let Some((input, output)) = &mut self.person else { return Ok(None) };
        loop {
            let question = localized(question, Language::from_env());
            let asked = write!(output, "{question} [{default}]: ").and_then(|()| output.flush());
            asked.map_err(InstallError::NoAnswer)?;
            let mut line = String::new();
            if input.read_line(&mut line).map_err(InstallError::NoAnswer)? == 0 {
                return Err(InstallError::NoAnswer(io::ErrorKind::UnexpectedEof.into()));
            }
            let usual = default.to_string();
            let line = Some(line.trim()).filter(|line| !line.is_empty()).unwrap_or(&usual);
            match line.parse() {
                Ok(answer) => return Ok(Some(answer)),
                Err(wrong) => {
                    writeln!(output, "  {wrong}").map_err(InstallError::NoAnswer)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(says: &'static str) -> TerminalPrompt {
        TerminalPrompt {
            person: Some((Box::new(says.as_bytes()), Box::new(Vec::new()))),
            defaults: false,
        }
    }

    #[test]
    fn an_empty_answer_is_the_default_and_nonsense_is_asked_again() {
        let mut asker = person("\nnone\n70000\n 8002 \n");
        assert_eq!(asker.ask("port", &8001_u16).unwrap(), Some(8001));
        assert_eq!(asker.ask("port", &8001_u16).unwrap(), Some(8002));
        assert!(matches!(asker.ask("port", &8001_u16), Err(InstallError::NoAnswer(_))));
    }

    #[test]
    fn nobody_gives_no_answer() {
        let mut nobody = TerminalPrompt { person: None, defaults: true };
        assert_eq!(nobody.ask("port", &8001_u16).unwrap(), None);
    }
}
