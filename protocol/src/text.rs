//! Text that people read (SPEC 1.6).

/// Whether a character shows itself where it stands: no control character, and none that hides, reorders or breaks the text
/// around it (C0, C1, and of Unicode's format characters all but those that scripts need to join letters).
pub fn is_plain(c: char) -> bool {
    let tricky = matches!(c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !tricky
}

/// Text with everything that is not plain written as an escape: what comes from others must not speak to a terminal.
pub fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            plain.push(c);
        } else {
            plain.extend(c.escape_default());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPEC 1.6.
    #[test]
    fn what_hides_or_reorders_text_is_not_plain() {
        for c in ['a', 'é', '日', '👩', '\u{200d}', '\u{200c}', '\u{a0}', ' ', '"', '\\'] {
            assert!(is_plain(c), "{c:?}");
        }
        for c in
            ['\0', '\n', '\t', '\u{1b}', '\u{7f}', '\u{9b}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{feff}']
        {
            assert!(!is_plain(c), "{c:?}");
        }
        assert_eq!(escaped("evil\u{1b}[2J\nnew \u{202e}line é"), "evil\\u{1b}[2J\\nnew \\u{202e}line é");
    }
}
