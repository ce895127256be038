//! Texts of the nodes' panel and the main server's page, so that commands say the same.

use crate::terminal::Language;

/// `code: ["中文", "English"],` in groups.
const TEXTS: [&str; 3] = [
    include_str!("../../web/js/texts/node.js"),
    include_str!("../../web/js/texts/shared.js"),
    include_str!("../../web/js/texts/master.js"),
];

/// Returns the panel's text of `problem.stopped`, for example.
pub(super) fn panel_text(group: &str, name: &str, language: Language) -> Option<String> {
    TEXTS.iter().find_map(|texts| {
        let (_, rest) = texts.split_once(&format!("\n  {group}: {{\n"))?;
        let (group, _) = rest.split_once("\n  },")?;
        let plain = format!("\n    {name}: [");
        let quoted = format!("\n    \"{name}\": [");
        let group = format!("\n{group}\n");
        let (_, rest) = group.split_once(&plain).or_else(|| group.split_once(&quoted))?;
        let (both, _) = rest.split_once("],\n")?;
        let both = format!("[{}]", both.trim().trim_end_matches(','));
        let [chinese, english]: [String; 2] = serde_json::from_str(&both).ok()?;
        Some(language.of(chinese, english))
    })
}
