//! The shims of this machine, for whoever makes them another program: each becomes it in the same
//! process, so what it keeps stays its child, and neither the driver nor the instance notices.

use std::io;
use std::path::Path;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::InstanceId;

use crate::driver::ask::ask;
use crate::folder::{self, Folder};
use crate::process::{Ident, boot_id};
use crate::protocol::{Mandate, Order, Reply};
use crate::status::{Phase, Status};

/// A shim that lives, and what it keeps.
#[derive(Clone, Debug)]
pub struct Shim {
    /// Whose shim it is.
    pub instance: InstanceId,
    /// Its process.
    pub pid: u32,
    /// It ends soon, or has nothing more to do than to say how its instance ended.
    pub ends: bool,
    folder: Folder,
    status: Status,
}

impl Shim {
    /// Whether both keep the same process of the same instance, or both none.
    #[must_use]
    pub fn keeps_what(&self, other: &Self) -> bool {
        self.instance == other.instance && self.status.process == other.status.process
    }

    /// Tells it to be the program that `command` starts as a shim. The inner error is why it does
    /// not.
    ///
    /// # Errors
    /// When it could not be asked.
    pub fn be(&self, command: &[String]) -> io::Result<Result<(), String>> {
        let (fence, incarnation) = (self.status.fence, self.status.incarnation.clone());
        let mandate = Mandate { fence, incarnation };
        self.ask(Order::Become { mandate, command: command.to_owned() })
    }

    /// Whether it listens to orders.
    #[must_use]
    pub fn answers(&self) -> bool {
        matches!(self.ask(Order::Status), Ok(Ok(())))
    }

    fn ask(&self, order: Order) -> io::Result<Result<(), String>> {
        Ok(match ask(&self.folder, self.status.shim, order)? {
            Reply::Ok(_) => Ok(()),
            Reply::Refused(because) => Err(because),
        })
    }
}

/// The living shim of an instance.
#[must_use]
pub fn of(home: &Path, instance: &InstanceId) -> Option<Shim> {
    let folder = Folder::new(home, instance);
    let status = folder.status().ok()?;
    if Some(&status.boot_id) != boot_id().ok().as_ref() || !status.shim.lives() {
        return None;
    }
    let Ident { pid, .. } = status.shim;
    let ends = matches!(status.phase, Phase::Stopping | Phase::Ended | Phase::Stopped);
    Some(Shim { instance: instance.clone(), pid, ends, folder, status })
}

/// All living shims of a home, by the names of their instances.
///
/// # Errors
/// When the folder of the instances cannot be read.
pub fn all(home: &Path) -> io::Result<Vec<Shim>> {
    if !home.join(layout::INSTANCES).exists() {
        return Ok(Vec::new());
    }
    let mut instances: Vec<InstanceId> = folder::instances(home)?.into_iter().collect();
    instances.sort();
    Ok(instances.iter().filter_map(|instance| of(home, instance)).collect())
}
