//! What the names mean that `check` and `doctor` are given.
//!
//! | name | stands for |
//! |---|---|
//! | of a folder | the devices that its file system lies on |
//! | without a slash, of nothing in the working directory, but of a block device in `/dev` | that |
//! | any other | what it leads to |

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathpulse::look_up_all;

use super::names::node_named;
use crate::lookup::{self, Found, Unknown};

/// One in so many parts of the timeout, at most, is for what names mean.
pub(super) const NAMES_SHARE: u32 = 4;

/// What is to be read, and why.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// The names of devices and files.
    pub(super) paths: Vec<PathBuf>,
    /// The folders that some of these stand for.
    folders: HashMap<PathBuf, Vec<PathBuf>>,
    /// Folders that lie on no device, each with what there is to say of it.
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

    /// What these names mean, as far as that is known within `limit`; the others are taken as they are.
    pub(super) fn of(names: &[PathBuf], limit: Duration) -> Targets {
        let mut targets = Targets::default();
        let meant = look_up_all(names, limit, meant);
        for (name, meant) in names.iter().zip(meant) {
            match meant {
                None => targets.paths.push(name.clone()),
                Some(Meant::Path(path)) => targets.paths.push(path),
                Some(Meant::Folder(devices)) => {
                    for device in devices {
                        let folders = targets.folders.entry(device.clone()).or_default();
                        if !folders.contains(name) {
                            folders.push(name.clone());
                        }
                        targets.paths.push(device);
                    }
                }
                Some(Meant::Nothing(why)) => targets.without.push((name.clone(), why)),
            }
        }
        targets
    }

    /// The folders that a device with these names is read for.
    pub(super) fn folders<'a>(
        &'a self,
        names: impl Iterator<Item = &'a PathBuf> + 'a,
    ) -> impl Iterator<Item = &'a PathBuf> + 'a {
        names.filter_map(|name| self.folders.get(name)).flatten()
    }
}

/// What one name means.
#[derive(Debug, PartialEq)]
enum Meant {
    Path(PathBuf),
    /// The devices below a folder.
    Folder(Vec<PathBuf>),
    /// A folder, and why there is no device to be read for it.
    Nothing(String),
}

fn meant(name: &Path) -> Meant {
    match fs::metadata(name) {
        Ok(meta) if meta.is_dir() => folder(lookup::look(name)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Meant::Path(in_dev(name).unwrap_or_else(|| name.to_owned()))
        }
        _ => Meant::Path(name.to_owned()),
    }
}

/// The block device that a name without a slash stands for.
fn in_dev(name: &Path) -> Option<PathBuf> {
    let node = node_named(name)?;
    let meta = fs::metadata(&node).ok()?;
    meta.file_type().is_block_device().then_some(node)
}

fn folder(found: Result<Found, Unknown>) -> Meant {
    let found = match found {
        Ok(found) => found,
        Err(Unknown::Said(why)) => return Meant::Nothing(format!("is a folder: {why}")),
        Err(Unknown::Silent | Unknown::Busy) => {
            return Meant::Nothing("is a folder that can't be looked up".to_owned());
        }
    };
    let devices: Vec<PathBuf> = found.on.iter().filter_map(Found::node).collect();
    if !devices.is_empty() {
        return Meant::Folder(devices);
    }
    let advice = match found.file_system.as_deref() {
        Some("devtmpfs") => "name the devices in it",
        _ => "name a device, or a file on a disk",
    };
    let kind = match &found.file_system {
        Some(kind) => format!(" on {kind}"),
        None => String::new(),
    };
    Meant::Nothing(format!(
        "is a folder{kind}, which lies on no block device that the kernel tells; {advice}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_no_block_device_means_what_is_here() {
        for name in ["null", "no-such-device", "./sda", "Cargo.toml"].map(PathBuf::from) {
            assert_eq!(meant(&name), Meant::Path(name));
        }
    }

    #[test]
    fn a_folder_on_no_device_is_said_with_its_file_system_and_what_to_do() {
        for (folder, says) in [("/proc", "on proc, which lies on no"), ("/sys", "on sysfs")] {
            let Meant::Nothing(why) = meant(Path::new(folder)) else {
                panic!("{folder} has no device");
            };
            assert!(why.contains(says) && why.contains("name a device"), "{why}");
        }
    }
}
