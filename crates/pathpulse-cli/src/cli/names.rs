//! Which of the daemon's paths a name on the command line stands for.
//!
//! Names are compared first, and nothing is looked up for one that is on the list: it may lie on a disk that
//! hangs, or lead to another device by now than the one that is watched by it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathpulse::{DeviceId, display_name};

use crate::daemon::PathDocument;
use crate::lookup::{self, Unknown};

/// How long a name may take to be looked up.
const LIMIT: Duration = Duration::from_secs(1);

/// The node in `/dev` that a name without a slash may stand for.
pub(super) fn node_named(name: &Path) -> Option<PathBuf> {
    let has_slash = name.as_os_str().as_bytes().contains(&b'/');
    (!has_slash).then(|| Path::new("/dev").join(name))
}

/// The path that a name on the command line stands for, absolute: a name without a slash that is of nothing in
/// the working directory, but of a block device in `/dev`, stands for that.
pub(super) fn meant(name: &Path) -> PathBuf {
    let absolute = || std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
    let Some(node) = node_named(name) else {
        return absolute();
    };
    let is_here = !matches!(lookup::look_apart(name, LIMIT), Err(Unknown::Said(_)));
    let is_device = || {
        let found = lookup::look_apart(&node, LIMIT);
        found.is_ok_and(|found| matches!(found.device(), Some(DeviceId::Block { .. })))
    };
    match !is_here && is_device() {
        true => node,
        false => absolute(),
    }
}

/// How a name on the command line may be shown by the daemon: as bytes, as the text that it is, or as the device
/// of that name.
fn texts_of(name: &Path) -> impl Iterator<Item = String> {
    let absolute = std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
    let shown = name.to_str().map(str::to_owned);
    let texts = [name, &absolute].map(|name| Some(display_name(name).to_string()));
    let device = node_named(name).map(|node| display_name(&node).to_string());
    texts.into_iter().chain([shown, device]).flatten()
}

/// The name that the daemon has for a name on the command line: another one of this path, or that of the path.
pub(crate) fn name_of(path: &PathDocument, name: &Path) -> String {
    let other = texts_of(name).find(|text| path.also.contains(text));
    other.unwrap_or_else(|| path.path.clone())
}

/// The places of the paths that a name stands for: the path of that name, as it is or as it is shown, or
/// with that as another name; else those whose device it leads to.
///
/// # Errors
/// What is wrong, and what to do.
pub(crate) fn find(paths: &[PathDocument], name: &Path) -> Result<Vec<usize>, String> {
    for text in texts_of(name) {
        if let Some(place) = paths.iter().position(|path| path.path == text) {
            return Ok(vec![place]);
        }
        if let Some(place) = paths.iter().position(|path| path.also.contains(&text)) {
            return Ok(vec![place]);
        }
    }
    let not_watched = "not watched; `pathpulse status` shows what is";
    let found = lookup::look_apart(name, LIMIT);
    let found = match (found, node_named(name)) {
        (Err(Unknown::Said(_)), Some(node)) => lookup::look_apart(&node, LIMIT),
        (found, _) => found,
    };
    let found = found.map_err(|unknown| match unknown {
        Unknown::Silent => format!(
            "not watched by this name, and its file system does not answer within {LIMIT:?} what it \
             leads to; use the name that `pathpulse status` shows"
        ),
        Unknown::Said(_) | Unknown::Busy => not_watched.to_owned(),
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

/// As [`find`], for what may be done to one path only.
///
/// # Errors
/// As [`find`]; and when the name may mean several, which.
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
            Err(format!("may mean any of {names}: name one of these"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples;

    #[test]
    fn an_exact_name_wins_and_what_may_mean_several_is_refused_with_them() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let found = lookup::look(file.path()).expect("it is there");
        let device = found.device().map(|device| device.to_string());
        let path = |name: &str| PathDocument {
            device: device.clone(),
            ..examples::path(name, "up")
        };
        let named = path(&display_name(file.path()).to_string());
        let paths = [path("/one"), named, path(r"/a\xff\n")];
        assert_eq!(find(&paths, file.path()), Ok(vec![1]));
        // As it is shown, and byte for byte.
        let bytes = pathpulse::parse_name(r"/a\xff\n").expect("a name");
        assert_eq!(find(&paths, Path::new(r"/a\xff\n")), Ok(vec![2]));
        assert_eq!(find(&paths, &bytes), Ok(vec![2]));
        // A name without a slash is that of a device, too, unless it is of a path in the working directory.
        let here = std::path::absolute("sda").expect("a folder");
        let disks = [path("/dev/sda"), path(&display_name(&here).to_string())];
        assert_eq!(find(&disks[..1], Path::new("sda")), Ok(vec![0]));
        assert_eq!(find(&disks, Path::new("sda")), Ok(vec![1]));
        assert_eq!(node_named(Path::new("./sda")), None);
        assert_eq!(
            meant(Path::new("no-such")),
            std::path::absolute("no-such").expect("a folder")
        );
    }
}
