//! Finds the watched paths that a name on the command line refers to.
//!
//! Names are compared first, and a name on the watchlist is not looked up: it may be on a disk that
//! hangs, or lead to another device by now than the watched one.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathpulse::{DeviceId, display_name};

use crate::api::PathDocument;
use crate::lookup::{self, LookupError};

/// Time limit of looking up a name.
const LIMIT: Duration = Duration::from_secs(1);

/// The node in `/dev` that a name without a slash may refer to.
pub(super) fn node_named(name: &Path) -> Option<PathBuf> {
    let has_slash = name.as_os_str().as_bytes().contains(&b'/');
    (!has_slash).then(|| Path::new("/dev").join(name))
}

/// The absolute path of a name on the command line. A name without a slash is a file in the working
/// directory, or else a block device in `/dev`.
pub(super) fn resolve(name: &Path) -> PathBuf {
    let absolute = || std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
    let Some(node) = node_named(name) else {
        return absolute();
    };
    let is_here = !matches!(
        lookup::look_up_in_subprocess(name, LIMIT),
        Err(LookupError::Failed(_))
    );
    let is_device = || {
        let found = lookup::look_up_in_subprocess(&node, LIMIT);
        found.is_ok_and(|found| matches!(found.device(), Some(DeviceId::Block { .. })))
    };
    match !is_here && is_device() {
        true => node,
        false => absolute(),
    }
}

/// How the daemon may show a name on the command line: with its bytes escaped, as it is written, or
/// as the device of that name.
fn texts_of(name: &Path) -> impl Iterator<Item = String> {
    let absolute = std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
    let shown = name.to_str().map(str::to_owned);
    let texts = [name, &absolute].map(|name| Some(display_name(name).to_string()));
    let device = node_named(name).map(|node| display_name(&node).to_string());
    texts.into_iter().chain([shown, device]).flatten()
}

/// The daemon's name for a name on the command line: another name of this path, or its main name.
pub(crate) fn name_of(path: &PathDocument, name: &Path) -> String {
    let other = texts_of(name).find(|text| path.also.contains(text));
    other.unwrap_or_else(|| path.path.clone())
}

/// The indexes of the paths that a name refers to: the path with that name or other name, as it is
/// written or as it is shown; else the paths whose device it leads to.
///
/// # Errors
/// No path is found.
pub(crate) fn find(paths: &[PathDocument], name: &Path) -> Result<Vec<usize>, String> {
    for text in texts_of(name) {
        if let Some(place) = paths.iter().position(|path| path.path == text) {
            return Ok(vec![place]);
        }
        if let Some(place) = paths.iter().position(|path| path.also.contains(&text)) {
            return Ok(vec![place]);
        }
    }
    let not_watched = "not watched; `pathpulse status` shows the watched paths";
    let found = lookup::look_up_in_subprocess(name, LIMIT);
    let found = match (found, node_named(name)) {
        (Err(LookupError::Failed(_)), Some(node)) => lookup::look_up_in_subprocess(&node, LIMIT),
        (found, _) => found,
    };
    let found = found.map_err(|unknown| match unknown {
        LookupError::TimedOut => format!(
            "not watched by this name, and its file system does not answer within {LIMIT:?}; \
             use the name that `pathpulse status` shows"
        ),
        LookupError::Failed(_) | LookupError::Busy => not_watched.to_owned(),
    })?;
    let device = found.device().map(|device| device.to_string());
    let fits = |path: &PathDocument| path.device.is_some() && path.device == device;
    let all = paths.iter().enumerate().filter(|(_, path)| fits(path));
    let all: Vec<usize> = all.map(|(place, _)| place).collect();
    if all.is_empty() {
        return Err(not_watched.to_owned());
    }
    Ok(all)
}

/// As [`find`], for commands that need exactly one path.
///
/// # Errors
/// No path is found, or several.
pub(crate) fn find_one<'a>(
    paths: &'a [PathDocument],
    name: &Path,
) -> Result<&'a PathDocument, String> {
    let places = find(paths, name)?;
    match places[..] {
        [place] => Ok(&paths[place]),
        _ => {
            let names = places.iter().map(|place| paths[*place].path.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            Err(format!("ambiguous: it can mean {names}; name one of these"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples;

    #[test]
    fn an_exact_name_wins_over_other_meanings_of_the_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let found = lookup::look_up(file.path()).expect("it is there");
        let device = found.device().map(|device| device.to_string());
        let path = |name: &str| PathDocument {
            device: device.clone(),
            ..examples::path(name, "up")
        };
        let named = path(&display_name(file.path()).to_string());
        let paths = [path("/one"), named, path(r"/a\xff\n")];
        assert_eq!(find(&paths, file.path()), Ok(vec![1]));
        // As the daemon shows it, and with its real bytes.
        let bytes = pathpulse::parse_name(r"/a\xff\n").expect("a name");
        assert_eq!(find(&paths, Path::new(r"/a\xff\n")), Ok(vec![2]));
        assert_eq!(find(&paths, &bytes), Ok(vec![2]));
        // A name without a slash is a device, unless a path in the working directory has it.
        let here = std::path::absolute("sda").expect("a folder");
        let disks = [path("/dev/sda"), path(&display_name(&here).to_string())];
        assert_eq!(find(&disks[..1], Path::new("sda")), Ok(vec![0]));
        assert_eq!(find(&disks, Path::new("sda")), Ok(vec![1]));
        assert_eq!(node_named(Path::new("./sda")), None);
        assert_eq!(
            resolve(Path::new("no-such")),
            std::path::absolute("no-such").expect("a folder")
        );
    }
}
