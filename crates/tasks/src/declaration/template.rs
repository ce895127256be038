//! The command line of a type: a program and elements with placeholders. A value becomes
//! part of one element and is never split.

use std::{iter::Peekable, path::PathBuf, str::Chars};

use crate::BilingualText;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTemplate {
    pub program: PathBuf,
    pub arguments: Vec<TemplateElement>,
}

/// One element, or several that are left out together if one of their parameters is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateElement {
    pub elements: Vec<Vec<TemplatePart>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    Literal(String),
    Parameter(String),
}

impl CommandTemplate {
    /// The names of parameters that it uses.
    pub fn used_parameters(&self) -> impl Iterator<Item = &str> {
        let parts = self.arguments.iter().flat_map(|element| element.elements.iter().flatten());
        parts.filter_map(|part| match part {
            TemplatePart::Parameter(name) => Some(name.as_str()),
            TemplatePart::Literal(_) => None,
        })
    }
}

/// Parses one element: `{name}` is a parameter, `{{` and `}}` are braces.
pub(super) fn parse_element(text: &str) -> Result<Vec<TemplatePart>, BilingualText> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' if chars.next_if_eq(&'{').is_some() => literal.push('{'),
            '}' if chars.next_if_eq(&'}').is_some() => literal.push('}'),
            '{' => {
                if !literal.is_empty() {
                    parts.push(TemplatePart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(TemplatePart::Parameter(placeholder(&mut chars)?));
            }
            '}' => return Err(stray("}")),
            c => literal.push(c),
        }
    }
    if !literal.is_empty() || parts.is_empty() {
        parts.push(TemplatePart::Literal(literal));
    }
    Ok(parts)
}

fn placeholder(chars: &mut Peekable<Chars<'_>>) -> Result<String, BilingualText> {
    let mut name = String::new();
    loop {
        match chars.next() {
            Some('}') => return Ok(name),
            Some('{') | None => return Err(stray("{")),
            Some(c) => name.push(c),
        }
    }
}

fn stray(brace: &str) -> BilingualText {
    BilingualText::new(
        format!("单独的 {brace}；参数写作 {{名称}}，花括号本身写作 {{{{ 或 }}}}"),
        format!("a single {brace}; write a parameter as {{name}}, and a brace as {{{{ or }}}}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_text_and_parameters_and_doubled_braces_are_braces() {
        let literal = |text: &str| TemplatePart::Literal(text.to_owned());
        let name = |text: &str| TemplatePart::Parameter(text.to_owned());
        for (text, parts) in [
            ("", vec![literal("")]),
            ("a b", vec![literal("a b")]),
            ("{x}", vec![name("x")]),
            (
                "--to={x}-{y}.",
                vec![literal("--to="), name("x"), literal("-"), name("y"), literal(".")],
            ),
            ("{{x}}", vec![literal("{x}")]),
            ("{{{x}}}", vec![literal("{"), name("x"), literal("}")]),
        ] {
            assert_eq!(parse_element(text), Ok(parts), "{text}");
        }
        for text in ["{", "}", "{x", "x}", "{a{b}}"] {
            assert!(parse_element(text).is_err(), "{text}");
        }
    }
}
