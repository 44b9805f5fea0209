//! Schema changes against a real PostgreSQL.

#[cfg(test)]
mod both;
#[cfg(test)]
mod catalog;
#[cfg(test)]
mod desired;
#[cfg(test)]
mod drivers;
#[cfg(test)]
mod filling;
#[cfg(test)]
mod hazards;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod touched;
#[cfg(test)]
mod waits;
#[cfg(test)]
mod ways;
