//! The folder of the journal: for its owner only, and on a file system that keeps its word.
//!
//! SQLite's log needs locks and syncs that mean what they say. Over a network they often do not,
//! and two machines could both believe to be alone; so those file systems are refused.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::{Kind, StoreError};

/// File systems that are not of this machine, by the number `statfs` gives them.
const REMOTE: &[(u32, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
];
/// What `statfs` says of everything that a user-space program serves, local or not.
const FUSE: u32 = 0x6573_5546;
/// User-space file systems known to be local: an NTFS disk, and the root of a rootless container.
const FUSE_LOCAL: &[&str] = &["fuseblk", "fuse.fuse-overlayfs", "fuse-overlayfs"];

/// Makes the folder if it is missing, closes it to everyone but its owner, and refuses one that is
/// on another machine.
pub(crate) fn prepare(dir: &Path) -> Result<(), StoreError> {
    let io = |error| StoreError::io(format!("prepare the folder {}", dir.display()), error);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    let mode = fs::metadata(dir).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io)?;
    }
    match file_system(dir).map_err(io)? {
        None => Ok(()),
        Some(name) => Err(StoreError::new(
            Kind::Unsuitable(format!(
                "it is on {name}, a file system of another machine, where neither locks nor syncs can be relied on; use a folder on a local disk"
            )),
            format!("use the folder {}", dir.display()),
        )),
    }
}

/// Makes durable which files the folder holds.
pub(crate) fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| StoreError::io(format!("sync the folder {}", dir.display()), error))
}

/// The name of the folder's file system if it is remote.
fn file_system(dir: &Path) -> std::io::Result<Option<String>> {
    let found = rustix::fs::statfs(dir)?;
    // The number has 32 bits; the field is wider, and sign-extended on some machines.
    let magic = u32::try_from(found.f_type & 0xffff_ffff).unwrap_or(0);
    if magic != FUSE {
        return Ok(remote(magic).map(str::to_owned));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let name = mount_type(&mounts, &dir.canonicalize()?);
    Ok(if FUSE_LOCAL.contains(&name.as_str()) { None } else { Some(name) })
}

fn remote(magic: u32) -> Option<&'static str> {
    REMOTE.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// The type of the mount that holds `path`: the last one of the longest mount point above it.
fn mount_type(mounts: &str, path: &Path) -> String {
    let mut best = (0, "fuse");
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4) else { continue };
        let Some(name) = right.split(' ').next() else { continue };
        let point = point.replace("\\040", " ");
        if path.starts_with(&point) && point.len() >= best.0 {
            best = (point.len(), name);
        }
    }
    best.1.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_file_systems_are_known_by_number() {
        assert_eq!(remote(0x6969), Some("nfs"));
        assert_eq!(remote(0xef53), None, "ext4");
        assert_eq!(remote(0x0102_1994), None, "tmpfs");
    }

    #[test]
    fn a_user_space_file_system_is_known_by_the_mount_that_holds_the_folder() {
        let mounts = "\
22 1 0:20 / / rw - fuse.fuse-overlayfs overlay rw
30 22 0:30 / /mnt/far rw shared:1 - fuse.sshfs host:/ rw
31 22 0:31 / /mnt/my\\040disk rw - fuseblk /dev/sdb1 rw
";
        let name = |path: &str| mount_type(mounts, Path::new(path));
        assert_eq!(name("/home/ann/state"), "fuse.fuse-overlayfs");
        assert_eq!(name("/mnt/far/state"), "fuse.sshfs");
        assert_eq!(name("/mnt/farther"), "fuse.fuse-overlayfs");
        assert_eq!(name("/mnt/my disk/state"), "fuseblk");
        assert_eq!(mount_type("", Path::new("/x")), "fuse", "an unreadable table is not local");
    }

    #[test]
    fn the_folder_is_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/state");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        prepare(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
