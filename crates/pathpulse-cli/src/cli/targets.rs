//! Resolves the names that `check` and `doctor` get.
//!
//! | name | what is read |
//! |---|---|
//! | a directory | the devices of its file system |
//! | a name without a slash that does not exist in the working directory | the block device of that name in `/dev` |
//! | any other name | the device or file that it leads to |

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathpulse::look_up_all;

use super::names::node_named;
use crate::lookup::{self, Found, LookupError};

/// Resolving names takes at most the timeout divided by this.
pub(super) const NAMES_SHARE: u32 = 4;

/// What is read.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// The names of devices and files.
    pub(super) paths: Vec<PathBuf>,
    /// The directories that some of these are read for.
    directories: HashMap<PathBuf, Vec<PathBuf>>,
    /// Directories without a device, each with the reason.
    pub(super) without: Vec<(PathBuf, String)>,
}

impl Targets {
    /// These devices.
    pub(super) fn devices(paths: Vec<PathBuf>) -> Targets {
        Targets {
            paths,
            ..Targets::default()
        }
    }

    /// Resolves these names. A name that is not resolved within `limit` is read as it is.
    pub(super) fn of(names: &[PathBuf], limit: Duration) -> Targets {
        let mut targets = Targets::default();
        let resolved = look_up_all(names, limit, resolve);
        for (name, target) in names.iter().zip(resolved) {
            match target {
                None => targets.paths.push(name.clone()),
                Some(Target::Path(path)) => targets.paths.push(path),
                Some(Target::Directory(devices)) => {
                    for device in devices {
                        let directories = targets.directories.entry(device.clone()).or_default();
                        if !directories.contains(name) {
                            directories.push(name.clone());
                        }
                        targets.paths.push(device);
                    }
                }
                Some(Target::NoDevice(why)) => targets.without.push((name.clone(), why)),
            }
        }
        targets
    }

    /// The directories that a device with these names is read for.
    pub(super) fn directories<'a>(
        &'a self,
        names: impl Iterator<Item = &'a PathBuf> + 'a,
    ) -> impl Iterator<Item = &'a PathBuf> + 'a {
        names
            .filter_map(|name| self.directories.get(name))
            .flatten()
    }
}

/// What is read for one name.
#[derive(Debug, PartialEq)]
enum Target {
    Path(PathBuf),
    /// The devices below a directory.
    Directory(Vec<PathBuf>),
    /// Why there is no device to read for a directory.
    NoDevice(String),
}

fn resolve(name: &Path) -> Target {
    match fs::metadata(name) {
        Ok(meta) if meta.is_dir() => directory(lookup::look_up(name)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Target::Path(in_dev(name).unwrap_or_else(|| name.to_owned()))
        }
        _ => Target::Path(name.to_owned()),
    }
}

/// The block device of a name without a slash.
fn in_dev(name: &Path) -> Option<PathBuf> {
    let node = node_named(name)?;
    let meta = fs::metadata(&node).ok()?;
    meta.file_type().is_block_device().then_some(node)
}

fn directory(found: Result<Found, LookupError>) -> Target {
    let found = match found {
        Ok(found) => found,
        Err(LookupError::Failed(why)) => return Target::NoDevice(format!("is a directory: {why}")),
        Err(LookupError::TimedOut | LookupError::Busy) => {
            return Target::NoDevice("is a directory whose devices cannot be looked up".to_owned());
        }
    };
    let devices: Vec<PathBuf> = found.on.iter().filter_map(Found::node).collect();
    if !devices.is_empty() {
        return Target::Directory(devices);
    }
    let advice = match found.file_system.as_deref() {
        Some("devtmpfs") => "name the devices in it",
        _ => "name a device, or a file on a disk",
    };
    let kind = match &found.file_system {
        Some(kind) => format!(" on {kind}"),
        None => String::new(),
    };
    Target::NoDevice(format!(
        "is a directory{kind}, and the kernel shows no block device below it; {advice}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_no_block_device_is_read_as_it_is() {
        for name in ["null", "no-such-device", "./sda", "Cargo.toml"].map(PathBuf::from) {
            assert_eq!(resolve(&name), Target::Path(name));
        }
    }

    #[test]
    fn a_directory_without_a_device_is_reported_with_its_file_system() {
        for (directory, part) in [("/proc", "on proc, and"), ("/sys", "on sysfs")] {
            let Target::NoDevice(why) = resolve(Path::new(directory)) else {
                panic!("{directory} has no device");
            };
            assert!(why.contains(part) && why.contains("name a device"), "{why}");
        }
    }
}
