//! The operator's language, and formatting of quantities and of texts from others.

pub(crate) use edge_mirror_base::quantity::format_bytes;

/// The language of commands' output: help, results and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Chinese,
    English,
}

impl Language {
    /// Returns the locale's language.
    pub fn from_env() -> Self {
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

    /// Formats `320 ms`, `3.1 s`, `41 s`.
    pub(crate) fn time(self, seconds: f64) -> String {
        let (ms, s) = (self.of("毫秒", "ms"), self.of("秒", "s"));
        match seconds {
            t if t < 0.9995 => format!("{:.0} {ms}", t * 1e3),
            t if t < 9.95 => format!("{t:.1} {s}"),
            t => format!("{t:.0} {s}"),
        }
    }

    /// Formats a duration: `59 s`, `12 min`, `5 h 20 min`, `3 d 4 h`.
    pub(crate) fn age(self, seconds: u64) -> String {
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let (d, h) = (self.of("天", "d"), self.of("小时", "h"));
        let (min, s) = (self.of("分钟", "min"), self.of("秒", "s"));
        match seconds {
            t if t < 60 => format!("{t} {s}"),
            t if t < 3600 => format!("{minutes} {min}"),
            t if t < 86_400 => format!("{hours} {h} {minutes} {min}"),
            _ => format!("{days} {d} {hours} {h}"),
        }
    }
}

/// Returns one of two texts, by the operator's language.
pub(crate) fn say(chinese: impl Into<String>, english: impl Into<String>) -> String {
    Language::from_env().of(chinese.into(), english.into())
}

/// Returns the operator's half of a text with both, `中文 / English`, as servers send them;
/// others stay as they are.
pub fn localized(text: &str, language: Language) -> String {
    let is_chinese = |text: &str| text.contains(|c| matches!(c, '\u{4e00}'..='\u{9fff}'));
    match text.split_once(" / ").or_else(|| text.split_once("/ ")) {
        Some((chinese, english)) if is_chinese(chinese) && !is_chinese(english) => {
            // The subject stands before both.
            let about = chinese.split_once(": ").map(|(about, _)| about);
            match about.filter(|about| !is_chinese(about)) {
                Some(about) => {
                    language.of(chinese.trim_end().into(), format!("{about}: {english}"))
                }
                None => language.of(chinese.trim_end(), english).into(),
            }
        }
        _ => text.into(),
    }
}

/// Puts a text on one line, without control characters.
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
            assert_eq!(Language::English.time(seconds), text);
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
            assert_eq!(Language::English.age(seconds), text);
        }
    }

    #[test]
    fn times_are_in_the_readers_language() {
        assert_eq!(Language::Chinese.age(3), "3 秒");
        assert_eq!(Language::Chinese.age(90_000), "1 天 1 小时");
        assert_eq!(Language::Chinese.time(0.32), "320 毫秒");
    }

    #[test]
    fn texts_in_both_languages_are_told_in_one() {
        let both = "没有这个会议 / there is no such meeting";
        assert_eq!(localized(both, Language::English), "there is no such meeting");
        assert_eq!(localized(both, Language::Chinese), "没有这个会议");
        let about = "syncInterval = 0: 应为 1 到 3600 的整数 / must be from 1 to 3600";
        assert_eq!(localized(about, Language::English), "syncInterval = 0: must be from 1 to 3600");
        assert_eq!(localized(about, Language::Chinese), "syncInterval = 0: 应为 1 到 3600 的整数");
        for one in ["GET http://a / b", "没有这个地址", "目录 / 文件"] {
            assert_eq!(localized(one, Language::English), one);
        }
    }

    #[test]
    fn a_terminal_obeys_nothing_in_what_others_wrote() {
        assert_eq!(plain(" a\x1b[31mb\nc\u{202e}d "), "a [31mb c d");
        assert_eq!(plain("会议"), "会议");
    }
}
