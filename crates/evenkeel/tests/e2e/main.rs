//! The program as people use it: deployed for real, on this machine, under load, with programs
//! that know nothing of it as services.

#[cfg(test)]
mod affinity;
#[cfg(test)]
mod campaign;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod control;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod direct;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod filling;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod holds;
#[cfg(test)]
mod house;
#[cfg(test)]
mod http;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod judged;
#[cfg(test)]
mod load;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod news;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod preloaded;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod protocols;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod saved;
#[cfg(test)]
mod scaling;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod start;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod strategies;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod ways_back;
#[cfg(test)]
mod whole;
#[cfg(test)]
mod zero;
