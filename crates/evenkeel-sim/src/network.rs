//! Orders on their way from a controller to an executor.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use evenkeel_kernel::release::State;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::want::{self, Want};
use evenkeel_kernel::world::Fence;

/// One want on its way. Shared, because it is sent again and again.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// For the keeper and with it for the edge: names of sockets.
    Listeners(Rc<BTreeMap<String, SocketAddr>>),
    /// For the edge.
    Table(Rc<RoutingTable>),
    /// For the platform.
    Pool(Rc<want::Pool>),
}

/// Everything that one durable state wants, of one controller.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) fence: Fence,
    pub(crate) messages: Vec<Message>,
}

impl Batch {
    /// What `state` wants in the name of `fence`.
    pub(crate) fn of(state: &State, fence: Fence) -> Self {
        let messages = state.wants(fence.epoch).into_iter().filter_map(|want| match want {
            Want::Listeners(sockets) => Some(Message::Listeners(Rc::new(sockets))),
            Want::Table(table) => Some(Message::Table(Rc::from(table))),
            Want::Pool(pool) => Some(Message::Pool(Rc::from(pool))),
            // The controller asks itself; nothing is on its way.
            Want::Checks(_) => None,
            // No stack here has a database.
            Want::Schemas(_) => None,
        });
        Self { fence, messages: messages.collect() }
    }

    /// The table in it.
    pub(crate) fn table(&self) -> Option<&Rc<RoutingTable>> {
        self.messages.iter().find_map(|message| match message {
            Message::Table(table) => Some(table),
            Message::Listeners(_) | Message::Pool(_) => None,
        })
    }

    /// Whether it says the same as `other`.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let same = |pair: (&Message, &Message)| match pair {
            (Message::Listeners(a), Message::Listeners(b)) => a == b,
            (Message::Table(a), Message::Table(b)) => a == b,
            (Message::Pool(a), Message::Pool(b)) => a == b,
            _ => false,
        };
        self.messages.len() == other.messages.len()
            && self.messages.iter().zip(&other.messages).all(same)
    }
}
