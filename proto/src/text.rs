//! Which characters of text that others wrote are never shown as they are.

/// Whether a terminal obeys a character, or shows it as nothing or as another one: controls
/// (C0, DEL, C1), what turns the direction of writing, line separators, and characters that
/// are made to be invisible (tags, annotations, the byte order mark, noncharacters).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{fffe}'
                | '\u{ffff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}
