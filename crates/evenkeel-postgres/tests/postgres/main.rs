//! Schema changes against a real PostgreSQL.

#[cfg(test)]
mod both;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod stories;
