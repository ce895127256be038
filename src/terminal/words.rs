//! Which language the operator reads, and how quantities and texts of others
//! are written.

/// Of what is shown; errors of the command line are in English.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Chinese,
    English,
}

impl Language {
    /// As the locale says.
    pub fn of_environment() -> Self {
        let variables = ["LC_ALL", "LC_MESSAGES", "LANG"];
        Self::of_locale(variables.map(|name| std::env::var(name).unwrap_or_default()))
    }

    /// The first variable that is set counts.
    fn of_locale(variables: [String; 3]) -> Self {
        let locale = variables.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
        if locale.to_lowercase().starts_with("zh") { Self::Chinese } else { Self::English }
    }

    pub fn of<T>(self, chinese: T, english: T) -> T {
        match self {
            Self::Chinese => chinese,
            Self::English => english,
        }
    }
}

/// `320 ms`, `3.1 s`, `41 s`.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

/// `59 s`, `12 min`, `5 h 20 min`, `3 d 4 h`: how long something has been so.
pub(crate) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{minutes} min"),
        s if s < 86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `512 B`, `30.0 MB`, `1.2 GB`: decimal, as networks are measured.
pub(crate) fn bytes(count: f64) -> String {
    let (value, unit) = match count {
        n if n < 1e3 => return format!("{n:.0} B"),
        n if n < 999_950.0 => (n / 1e3, "KB"),
        n if n < 999_950_000.0 => (n / 1e6, "MB"),
        n => (n / 1e9, "GB"),
    };
    format!("{value:.1} {unit}")
}

/// On one line, and nothing that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text: String = text.chars().map(|c| if obeyed(c) { ' ' } else { c }).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_which_language() {
        let of = |all: &str, messages: &str, lang: &str| {
            Language::of_locale([all, messages, lang].map(str::to_owned))
        };
        for chinese in [("", "", "zh_CN.UTF-8"), ("zh_TW", "", "en_US"), ("", "zh", "C")] {
            assert_eq!(of(chinese.0, chinese.1, chinese.2), Language::Chinese, "{chinese:?}");
        }
        for english in [("", "", ""), ("C", "", "zh_CN"), ("", "", "de_DE"), ("POSIX", "", "")] {
            assert_eq!(of(english.0, english.1, english.2), Language::English, "{english:?}");
        }
    }

    #[test]
    fn quantities_have_the_unit_that_fits() {
        for (seconds, text) in [
            (0.0, "0 ms"),
            (0.3204, "320 ms"),
            (0.9996, "1.0 s"),
            (3.12, "3.1 s"),
            (9.96, "10 s"),
            (125.4, "125 s"),
        ] {
            assert_eq!(time(seconds), text);
        }
        for (count, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1e3, "1.0 KB"),
            (999_960.0, "1.0 MB"),
            (412.3e6, "412.3 MB"),
            (1.25e9, "1.2 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h 0 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn a_terminal_obeys_nothing_in_what_others_wrote() {
        assert_eq!(plain(" a\x1b[31mb\nc\u{202e}d "), "a [31mb c d");
        assert_eq!(plain("会议"), "会议");
    }
}
