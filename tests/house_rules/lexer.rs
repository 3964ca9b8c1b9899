//! Rust text as code and comments, so that a rule for one is not applied to the other.

/// A line of a Rust file. What belongs to neither, such as the text of a literal, is blank in both.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) code: String,
    pub(crate) comment: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Code,
    LineComment,
    /// How many comments are open.
    BlockComment(usize),
    Text,
    /// How many `#` end it.
    RawText(usize),
}

/// Splits the text into lines of code and comments.
pub(crate) fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let (mut at, mut place) = (0, In::Code);
    while at < chars.len() {
        let (taken, now) = next(&chars, at, place);
        for &char in &chars[at..at + taken] {
            let line = lines.last_mut().expect("there is always one");
            let is_comment = |place| matches!(place, In::LineComment | In::BlockComment(_));
            match char {
                '\n' => lines.push(Line::default()),
                _ if is_comment(place) || is_comment(now) => line.comment.push(char),
                _ if place == In::Code && now == In::Code => line.code.push(char),
                _ => line.code.push(' '),
            }
        }
        (at, place) = (at + taken, now);
    }
    lines
}

/// How many characters belong together here, and where one is after them.
fn next(chars: &[char], at: usize, place: In) -> (usize, In) {
    let pair = (chars[at], chars.get(at + 1).copied().unwrap_or('\n'));
    match (place, pair) {
        (In::LineComment, ('\n', _)) => (1, In::Code),
        (In::Code, ('/', '/')) => (2, In::LineComment),
        (In::Code, ('/', '*')) => (2, In::BlockComment(1)),
        (In::Code, ('"', _)) => (1, In::Text),
        (In::Code, ('r', '"' | '#')) if starts_word(chars, at) => raw_text(chars, at),
        (In::Code, ('\'', _)) => (literal_len(chars, at), In::Code),
        (In::BlockComment(open), ('/', '*')) => (2, In::BlockComment(open + 1)),
        (In::BlockComment(1), ('*', '/')) => (2, In::Code),
        (In::BlockComment(open), ('*', '/')) => (2, In::BlockComment(open - 1)),
        (In::Text, ('\\', _)) => (2.min(chars.len() - at), In::Text),
        (In::Text, ('"', _)) => (1, In::Code),
        (In::RawText(hashes), ('"', _)) if hashes_at(chars, at + 1) >= hashes => {
            (1 + hashes, In::Code)
        }
        _ => (1, place),
    }
}

/// Whether no word goes on here; `br"` and `cr"` are literals as `r"` is.
fn starts_word(chars: &[char], at: usize) -> bool {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b' | 'c') => at < 2 || !is_word(chars[at - 2]),
        Some(before) => !is_word(before),
        None => true,
    }
}

/// A raw literal, or a raw identifier such as `r#type`.
fn raw_text(chars: &[char], at: usize) -> (usize, In) {
    let hashes = hashes_at(chars, at + 1);
    match chars.get(at + 1 + hashes) {
        Some('"') => (2 + hashes, In::RawText(hashes)),
        _ => (1, In::Code),
    }
}

fn hashes_at(chars: &[char], at: usize) -> usize {
    chars[at..].iter().take_while(|char| **char == '#').count()
}

/// The length of a literal such as `'"'` or `'\''`; 1 for the quote of a lifetime.
fn literal_len(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let rest = &chars[(at + 3).min(chars.len())..];
        return rest
            .iter()
            .position(|char| *char == '\'')
            .map_or(1, |end| end + 4);
    }
    if chars.get(at + 2) == Some(&'\'') {
        3
    } else {
        1
    }
}

#[test]
fn code_and_comments_are_told_apart() {
    let text =
        "a(); // b\n\"// c\"; /* d /* e */ f */ g\nr#\"h\"#; '\"'; i::<'j>(); '\\''; k // l\n";
    let lines = split(text);
    let words = |text: &str| {
        let words = text.split(|char: char| !char.is_alphanumeric());
        words
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let code: Vec<String> = lines.iter().map(|line| words(&line.code)).collect();
    let comments: Vec<String> = lines.iter().map(|line| words(&line.comment)).collect();
    assert_eq!(code, ["a", "g", "i j k", ""]);
    assert_eq!(comments, ["b", "d e f", "l", ""]);
}
