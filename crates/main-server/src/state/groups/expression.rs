//! Expressions of labels: `screen & !(old | "out of order")`. `!` binds closest, then `&`,
//! then `|`.

use std::{iter::Peekable, str::CharIndices};

use serde::{Deserialize, Serialize};
use thiserror::Error;

const MAX_BYTES: usize = 1000;
/// Levels of parentheses and negations.
const MAX_DEPTH: usize = 32;

/// An expression that nodes' labels fit or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LabelExpression {
    /// As it was written.
    text: String,
    term: LabelTerm,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelTerm {
    Label(String),
    Not(Box<LabelTerm>),
    All(Vec<LabelTerm>),
    Any(Vec<LabelTerm>),
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ExpressionFault {
    #[error(
        "标签表达式最长 {MAX_BYTES} 字节 / an expression of labels has at most {MAX_BYTES} bytes"
    )]
    TooLong,
    #[error(
        "标签表达式嵌套超过 {MAX_DEPTH} 层 / the expression is nested more than {MAX_DEPTH} levels deep"
    )]
    TooDeep,
    #[error("第 {0} 个字节处缺少标签 / a label is missing at byte {0}")]
    MissingLabel(usize),
    #[error("缺少右括号 / a closing parenthesis is missing")]
    MissingParenthesis,
    #[error("缺少右引号 / a closing quotation mark is missing")]
    MissingQuote,
    #[error("第 {0} 个字节处缺少 & 或 | / & or | is missing at byte {0}")]
    MissingOperator(usize),
}

impl TryFrom<String> for LabelExpression {
    type Error = ExpressionFault;

    fn try_from(text: String) -> Result<Self, ExpressionFault> {
        if text.len() > MAX_BYTES {
            return Err(ExpressionFault::TooLong);
        }
        let mut parser = ExpressionParser { rest: text.char_indices().peekable(), end: text.len() };
        let term = parser.any(0)?;
        match parser.next_place() {
            Some((at, _)) => Err(ExpressionFault::MissingOperator(at)),
            None => Ok(Self { text, term }),
        }
    }
}

impl From<LabelExpression> for String {
    fn from(expression: LabelExpression) -> Self {
        expression.text
    }
}

impl LabelExpression {
    pub(crate) fn matches(&self, labels: &[String]) -> bool {
        self.term.matches(labels)
    }
}

impl LabelTerm {
    fn matches(&self, labels: &[String]) -> bool {
        match self {
            Self::Label(label) => labels.contains(label),
            Self::Not(term) => !term.matches(labels),
            Self::All(terms) => terms.iter().all(|term| term.matches(labels)),
            Self::Any(terms) => terms.iter().any(|term| term.matches(labels)),
        }
    }
}

struct ExpressionParser<'a> {
    rest: Peekable<CharIndices<'a>>,
    end: usize,
}

impl ExpressionParser<'_> {
    /// The next character that is no space, and its place.
    fn next_place(&mut self) -> Option<(usize, char)> {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.next_place().is_some_and(|(_, c)| c == wanted) && self.rest.next().is_some()
    }

    fn any(&mut self, depth: usize) -> Result<LabelTerm, ExpressionFault> {
        let mut terms = vec![self.all(depth)?];
        while self.takes('|') {
            terms.push(self.all(depth)?);
        }
        Ok(LabelTerm::Any(terms))
    }

    fn all(&mut self, depth: usize) -> Result<LabelTerm, ExpressionFault> {
        let mut terms = vec![self.one(depth)?];
        while self.takes('&') {
            terms.push(self.one(depth)?);
        }
        Ok(LabelTerm::All(terms))
    }

    fn one(&mut self, depth: usize) -> Result<LabelTerm, ExpressionFault> {
        if depth >= MAX_DEPTH {
            return Err(ExpressionFault::TooDeep);
        }
        if self.takes('!') {
            return Ok(LabelTerm::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.takes('(') {
            let inner = self.any(depth + 1)?;
            let is_closed = self.takes(')');
            return is_closed.then_some(inner).ok_or(ExpressionFault::MissingParenthesis);
        }
        self.label().map(LabelTerm::Label)
    }

    fn label(&mut self) -> Result<String, ExpressionFault> {
        if self.takes('"') {
            let mut label = String::new();
            loop {
                match self.rest.next() {
                    None => return Err(ExpressionFault::MissingQuote),
                    Some((_, '"')) => return Ok(label),
                    Some((_, c)) => label.push(c),
                }
            }
        }
        let at = self.next_place().map_or(self.end, |(at, _)| at);
        let mut label = String::new();
        let is_part = |c: char| !c.is_whitespace() && !"&|!()\"".contains(c);
        while let Some((_, c)) = self.rest.next_if(|(_, c)| is_part(*c)) {
            label.push(c);
        }
        match label.is_empty() {
            true => Err(ExpressionFault::MissingLabel(at)),
            false => Ok(label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LabelExpression, ExpressionFault> {
        text.to_owned().try_into()
    }

    #[test]
    fn an_expression_fits_the_labels_that_it_describes() {
        for (text, fitting, others) in [
            ("screen", &["screen", "screen,old"][..], &["", "old", "Screen"][..]),
            ("a&b|c", &["a,b", "c", "a,c"], &["a", "b"]),
            ("a & (b | c)", &["a,b", "a,c"], &["a", "b,c"]),
            ("!a & b", &["b"], &["a,b", ""]),
            ("!!a", &["a"], &[""]),
            ("!(a | b)", &["", "c"], &["a", "b,c"]),
            (r#""out of order" | 5g-会议"#, &["out of order", "5g-会议"], &["out"]),
        ] {
            let expression = parse(text).unwrap();
            let matches = |labels: &str| {
                let labels: Vec<_> =
                    labels.split(',').filter(|l| !l.is_empty()).map(str::to_owned).collect();
                expression.matches(&labels)
            };
            assert!(fitting.iter().all(|labels| matches(labels)), "{text}");
            assert!(!others.iter().any(|labels| matches(labels)), "{text}");
            assert_eq!(String::from(expression.clone()), text);
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        use ExpressionFault::*;
        for (text, fault) in [
            ("", MissingLabel(0)),
            ("a & ", MissingLabel(4)),
            ("a | | b", MissingLabel(4)),
            ("a b", MissingOperator(2)),
            ("(a", MissingParenthesis),
            ("a)", MissingOperator(1)),
            ("\"a", MissingQuote),
        ] {
            assert_eq!(parse(text), Err(fault), "{text}");
        }
        assert_eq!(parse(&"(".repeat(900)), Err(TooDeep));
        assert_eq!(parse(&"!".repeat(900)), Err(TooDeep));
        assert_eq!(parse(&"a".repeat(1001)), Err(TooLong));
    }
}
