//! Shortens names so that different names stay different.
//!
//! A list of names is shortened together. Sorted, the names form a tree of common prefixes. At each
//! branch of the tree, the character after the branch is always shown. So two names have the same
//! characters shown up to their branch and different characters there. Then the words around these
//! characters are added, then the ends of the names, then their beginnings, as long as there is
//! room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{GAP, fitting};

/// A printable name in at most this many columns (at least three). The middle of a long name is
/// left out: names of devices differ at their ends, and their beginnings show what they are.
pub(crate) fn shorten(name: &str, columns: usize) -> String {
    let columns = columns.max(3);
    if name.width() <= columns {
        return name.to_owned();
    }
    let head_columns = (columns - 1) / 3;
    let head = fitting(name.chars(), head_columns);
    let tail = fitting(name.chars().rev(), columns - 1 - head_columns);
    let tail: String = tail.chars().rev().collect();
    head + GAP + &tail
}

/// Printable names in at most this many columns each, in order. Different names stay different; if
/// there is no room for the difference, they get numbers at their ends.
pub(crate) fn shorten_all<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    columns: usize,
) -> Vec<String> {
    let columns = columns.max(3);
    let long: BTreeSet<&str> = names
        .clone()
        .filter(|name| name.width() > columns)
        .collect();
    let mut short: BTreeMap<&str, String> = BTreeMap::new();
    let branches = branches(&long);
    let mut left = branches
        .iter()
        .map(|(name, places)| (*name, places))
        .collect::<Vec<_>>();
    for fills in [true, false] {
        let tried = left
            .iter()
            .map(|(name, places)| (*name, ShortName::of(name, places, columns, fills)));
        short.extend(tried);
        let mut looks: HashMap<String, usize> = HashMap::new();
        for look in short.values() {
            *looks.entry(look.clone()).or_default() += 1;
        }
        left.retain(|(name, _)| looks[&short[name]] > 1);
    }
    for (number, (name, _)) in (1..).zip(left) {
        let suffix = format!("~{number}");
        let room = columns.saturating_sub(suffix.len());
        short.insert(name, shorten(name, room) + &suffix);
    }
    let shown = |name: &str| short.get(name).cloned().unwrap_or_else(|| name.to_owned());
    names.map(shown).collect()
}

/// For each name, the indexes of the characters that distinguish it from others with the same
/// prefix.
fn branches<'a>(names: &BTreeSet<&'a str>) -> BTreeMap<&'a str, BTreeSet<usize>> {
    let names: Vec<&str> = names.iter().copied().collect();
    let common = |pair: &[&str]| {
        let (one, other) = (pair[0].chars(), pair[1].chars());
        one.zip(other).take_while(|(a, b)| a == b).count()
    };
    let common: Vec<usize> = names.windows(2).map(common).collect();
    let mut branches: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    // The length of the common prefix with the names before: at most that of each pair between
    // them.
    let mut follow = |order: &mut dyn Iterator<Item = usize>,
                      before: fn(usize) -> Option<usize>| {
        let mut places: Vec<usize> = Vec::new();
        for number in order {
            if let Some(common) = before(number).and_then(|pair| common.get(pair)) {
                places.retain(|place| place < common);
                places.push(*common);
            }
            branches.entry(names[number]).or_default().extend(&places);
        }
    };
    follow(&mut (0..names.len()), |number| number.checked_sub(1));
    follow(&mut (0..names.len()).rev(), Some);
    branches
}

/// A name with some characters shown.
struct ShortName {
    all: Vec<char>,
    is_shown: Vec<bool>,
    /// Columns that are used, and the limit.
    taken: usize,
    columns: usize,
}

impl ShortName {
    /// The text of a name with these branches. `fills`: use all columns.
    fn of(name: &str, branches: &BTreeSet<usize>, columns: usize, fills: bool) -> String {
        let all: Vec<char> = name.chars().collect();
        let mut short = ShortName {
            is_shown: vec![false; all.len()],
            all,
            taken: GAP.width(),
            columns,
        };
        for place in branches.iter().rev() {
            short.show(*place..place + 1);
        }
        if fills {
            for place in branches {
                let word = short.word(*place);
                short.show(word);
            }
            short.fill();
        }
        short.text()
    }

    /// Shows the characters of this range, if there is room for all of them.
    fn show(&mut self, places: Range<usize>) -> bool {
        let end = places.end.min(self.all.len());
        let before = (self.taken, self.is_shown.clone());
        for place in places.start..end {
            if self.is_shown[place] {
                continue;
            }
            // One gap becomes none, one or two.
            let is_hidden = |place: Option<usize>| {
                place.is_some_and(|place| self.is_shown.get(place) == Some(&false))
            };
            let gaps = [place.checked_sub(1), Some(place + 1)].map(is_hidden);
            let gaps = gaps.into_iter().filter(|is_gap| *is_gap).count();
            self.taken += self.all[place].width().unwrap_or(0) + gaps * GAP.width();
            self.taken -= GAP.width();
            self.is_shown[place] = true;
        }
        let fits = self.taken <= self.columns;
        if !fits {
            (self.taken, self.is_shown) = before;
        }
        fits
    }

    /// The word around a character.
    fn word(&self, place: usize) -> Range<usize> {
        let place = place.min(self.all.len().saturating_sub(1));
        let is_part = |c: &&char| c.is_alphanumeric();
        let before = self.all[..place].iter().rev().take_while(is_part);
        let after = self.all[place..].iter().take_while(is_part);
        place - before.count()..place + after.count()
    }

    /// Shows more characters at both ends: of three characters, two at the end.
    fn fill(&mut self) {
        let (mut head, mut tail) = (0, self.all.len());
        let mut turn = 0..;
        while head < tail {
            let is_head = turn.next().is_some_and(|turn| turn % 3 == 2);
            let place = match is_head {
                true => head,
                false => tail - 1,
            };
            if !self.show(place..place + 1) {
                return;
            }
            match is_head {
                true => head += 1,
                false => tail -= 1,
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut was_shown = true;
        for (c, is_shown) in self.all.iter().zip(&self.is_shown) {
            match (is_shown, was_shown) {
                (true, _) => text.push(*c),
                (false, true) => text += GAP,
                (false, false) => {}
            }
            was_shown = *is_shown;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(names: &[&str], columns: usize) -> Vec<String> {
        shorten_all(names.iter().copied(), columns)
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("/dev/sda", 8), "/dev/sda");
        assert_eq!(shorten("/dev/disk/by-id/wwn-0x5000c5", 12), "/de…0x5000c5");
        assert_eq!(shorten("abcdef", 0), "…ef");
        // Wide characters have two columns, combining accents none.
        assert_eq!(shorten("磁盘磁盘磁盘", 7), "磁…磁盘");
        for name in [
            "/dev/磁盘磁盘磁盘磁盘",
            "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}",
            "plain name",
        ] {
            for columns in 3..20 {
                assert!(
                    shorten(name, columns).width() <= columns,
                    "{name} in {columns}"
                );
            }
        }
    }

    #[test]
    fn the_legs_of_a_map_stay_apart() {
        let legs = [
            "/dev/disk/by-path/pci-0000:3b:00.0-fc-0x50060e8007e2a301-lun-0",
            "/dev/disk/by-path/pci-0000:3b:00.0-fc-0x50060e8007e2a311-lun-0",
            "/dev/disk/by-path/pci-0000:af:00.0-fc-0x50060e8007e2a301-lun-0",
            "/dev/disk/by-path/pci-0000:af:00.0-fc-0x50060e8007e2a311-lun-0",
            "/dev/sda",
        ];
        let expected = [
            "…3b…0x50060e8007e2a301…0",
            "…3b…0x50060e8007e2a311…0",
            "…af…0x50060e8007e2a301…0",
            "…af…0x50060e8007e2a311…0",
            "/dev/sda",
        ];
        assert_eq!(all(&legs, 24), expected);
    }

    #[test]
    fn what_differs_in_the_middle_only_is_shown_and_alone_a_name_is_shown_as_ever() {
        let one = "/dev/disk/by-id/scsi-3600a098000aaaaaa-part1";
        let other = "/dev/disk/by-id/scsi-3600a098000bbbbbb-part1";
        assert_eq!(all(&[one, one], 20), [shorten(one, 20), shorten(one, 20)]);
        for columns in 5..40 {
            let short = all(&[one, other], columns);
            assert!(
                short[0].contains('a') && short[1].contains('b'),
                "{short:?}"
            );
        }
    }

    #[test]
    fn names_that_differ_do_so_in_any_width() {
        let numbered =
            (0..200).map(|n| format!("/dev/mapper/{:o}-{}-{}", n * 7, "x".repeat(n % 9), n % 4));
        let odd = [
            "磁盘磁盘磁盘磁盘a磁盘",
            "磁盘磁盘磁盘磁盘b磁盘",
            "磁盘磁盘磁盘磁盘",
            "ee\u{301}eeeeee",
            "e\u{301}eeeeeee",
        ];
        let names: Vec<String> = numbered.chain(odd.map(str::to_owned)).collect();
        for columns in 6..40 {
            let short = shorten_all(names.iter().map(String::as_str), columns);
            for name in &short {
                assert!(name.width() <= columns, "{name} in {columns}");
            }
            let different: BTreeSet<&String> = short.iter().collect();
            assert_eq!(different.len(), names.len(), "in {columns}: {short:#?}");
        }
    }
}
