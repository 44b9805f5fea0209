//! Whether a table may be served at all. The last line of defence: a table that would take
//! everything down is refused, however it came about, and the last good one is served on.

use std::collections::BTreeSet;

use evenkeel_kernel::model::{PoolId, ServiceName, Weight};
use evenkeel_kernel::routing::{RoutingTable, Service};

use crate::limits::INSTANCES_MAX;

/// Says why `next` must not be served after `served`.
pub(crate) fn check(next: &RoutingTable, served: &RoutingTable) -> Result<(), String> {
    if next.fence < served.fence {
        return Err(format!(
            "it is of {} {}, older than what is served",
            next.fence.epoch, next.fence.generation
        ));
    }
    let pools = next.services.values().flat_map(|service| service.pools.values());
    let instances: usize = pools.map(|pool| pool.instances.len()).sum();
    if instances > INSTANCES_MAX {
        return Err(format!("it has {instances} instances, more than {INSTANCES_MAX}"));
    }
    for (name, service) in &next.services {
        check_split(name, service)?;
        check_not_emptied(name, service, served.services.get(name))?;
    }
    check_listeners(next)?;
    check_routes(next)
}

fn check_split(name: &ServiceName, service: &Service) -> Result<(), String> {
    let stray = service.split.keys().find(|revision| !service.pools.contains_key(revision));
    if let Some(revision) = stray {
        return Err(format!("the split of {name} names {revision}, which has no pool"));
    }
    let sum: u32 = service.split.values().map(|weight| u32::from(weight.0)).sum();
    if !service.split.is_empty() && sum != u32::from(Weight::ALL.0) {
        return Err(format!("the split of {name} sums up to {sum}, not to {}", Weight::ALL.0));
    }
    Ok(())
}

fn check_not_emptied(
    name: &ServiceName,
    next: &Service,
    served: Option<&Service>,
) -> Result<(), String> {
    let weighted = |service: &Service| {
        let pools = service.pools.iter();
        pools
            .filter(|(revision, _)| service.split.get(revision).is_some_and(|it| it.0 > 0))
            .map(|(_, pool)| pool.instances.values().filter(|it| !it.draining).count())
            .sum::<usize>()
    };
    let has_split = !next.split.is_empty();
    if has_split && served.is_some_and(|it| weighted(it) > 0) && weighted(next) == 0 {
        return Err(format!("it leaves {name} with traffic and without instances"));
    }
    Ok(())
}

fn check_listeners(next: &RoutingTable) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let of = |service: &'_ Service| {
        let open = service.listener.iter();
        open.chain(service.pinned.keys()).cloned().collect::<Vec<_>>()
    };
    for listener in next.services.values().flat_map(of) {
        if !seen.insert(listener.clone()) {
            return Err(format!("two services have the listener {listener}"));
        }
    }
    Ok(())
}

fn check_routes(next: &RoutingTable) -> Result<(), String> {
    for route in &next.routes {
        if let Some(to) = route.route.to() {
            let Some(service) = next.services.get(to) else {
                return Err(format!("route {} leads to {to}, unknown here", route.name));
            };
            let revision = route.revision.filter(|it| !service.pools.contains_key(it));
            if let Some(revision) = revision {
                let pool = PoolId::new(to, revision);
                return Err(format!("route {} leads to {pool}, which has no pool", route.name));
            }
        }
        if !route.route.path.starts_with('/') {
            return Err(format!("the path of route {} does not start with a slash", route.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::{Leads, RevisionNumber};

    use super::*;
    use crate::fixtures::{pool, service_table};

    fn good() -> RoutingTable {
        let addr = "127.0.0.1:1".parse().unwrap();
        service_table(2, vec![(1, Weight::ALL, pool(vec![addr]))])
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut RoutingTable), because: &str) {
        let mut next = good();
        change(&mut next);
        let answer = check(&next, &good());
        assert!(answer.as_ref().is_err_and(|it| it.contains(because)), "{answer:?}");
    }

    fn web(table: &mut RoutingTable) -> &mut Service {
        table.services.values_mut().next().unwrap()
    }

    #[test]
    fn s09_tables_that_would_take_traffic_down_are_refused() {
        assert_eq!(check(&good(), &good()), Ok(()));
        assert_eq!(
            check(&RoutingTable { fence: good().fence, ..RoutingTable::default() }, &good()),
            Ok(())
        );
        refused(|it| it.fence.generation.0 = 1, "older than what is served");
        let split = |revision, weight| {
            move |it: &mut RoutingTable| {
                web(it).split.insert(RevisionNumber(revision), Weight(weight));
            }
        };
        refused(split(9, 0), "r9, which has no pool");
        refused(split(1, 9_999), "sums up to 9999");
        refused(
            |it| web(it).pools.values_mut().for_each(|p| p.instances.clear()),
            "without instances",
        );
        refused(
            |it| {
                let pools = web(it).pools.values_mut();
                pools.flat_map(|p| p.instances.values_mut()).for_each(|i| i.draining = true);
            },
            "without instances",
        );
        refused(
            |it| it.routes[0].route.leads = Leads::To("other".parse().unwrap()),
            "other, unknown here",
        );
        refused(|it| it.routes[0].revision = Some(RevisionNumber(9)), "web r9, which has no pool");
        refused(|it| it.routes[0].route.path.clear(), "does not start with a slash");
        refused(
            |it| {
                web(it).listener = Some("svc-web".to_owned());
                let copy = web(it).clone();
                it.services.insert("other".parse().unwrap(), copy);
            },
            "two services have the listener svc-web",
        );
        refused(
            |it| {
                let addr = "127.0.0.1:1".parse().unwrap();
                *web(it).pools.values_mut().next().unwrap() = pool(vec![addr; INSTANCES_MAX + 1]);
            },
            "more than 10000",
        );
    }
}
