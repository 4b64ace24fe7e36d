//! Names of nodes, and the local convention that lets three terminals on one machine find each other with no addresses:
//! a name that ends in a number k means 127.0.0.1:(7000+k).

use raftkv_protocol::{Address, NodeName};

use super::{ConfigError, HostPort, address};

/// Port of the local convention's node 0.
const CONVENTION_BASE_PORT: u16 = 7000;

const MAX_NAME_BYTES: usize = 64;

/// A name is also a directory's name and a label in commands, so its letters are few.
pub(super) fn name(text: &str) -> Result<NodeName, ConfigError> {
    let begins_well = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if begins_well && text.len() <= MAX_NAME_BYTES && text.chars().all(plain) {
        Ok(NodeName::from(text))
    } else {
        Err(ConfigError::Name {
            name: text.to_owned(),
        })
    }
}

/// Where a bare name is, by the local convention; `None` when it ends in no number that makes a port.
pub(super) fn by_convention(name: &NodeName) -> Option<HostPort> {
    let digits = name.0.len() - name.0.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let number: u16 = name.0[name.0.len() - digits..].parse().ok()?;
    CONVENTION_BASE_PORT.checked_add(number).map(HostPort::loopback)
}

/// The other nodes of `--peers`, sorted by name. Naming oneself is allowed, with the address one really has.
pub(super) fn parse(
    lists: &[String],
    own_name: &NodeName,
    own_address: &Address,
) -> Result<Vec<(NodeName, Address)>, ConfigError> {
    let mut peers: Vec<(NodeName, Address)> = Vec::new();
    let items = lists.iter().flat_map(|list| list.split(',')).map(str::trim);
    let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
    if items.is_empty() && !lists.is_empty() {
        // Mostly a script's variable that was not set: each node would found a cluster of its own.
        return Err(ConfigError::NoPeers);
    }
    for item in items {
        let (name, address) = peer(item)?;
        if name == *own_name {
            // A bare own name says nothing about the address, so it can not contradict it.
            if item.contains('=') && address != *own_address {
                return Err(ConfigError::OwnAddressDiffers {
                    name,
                    listed: address,
                    own: own_address.clone(),
                });
            }
            continue;
        }
        match peers.iter().find(|(known, _)| *known == name) {
            Some((_, first)) if *first != address => {
                return Err(ConfigError::PeerTwice {
                    name,
                    first: first.clone(),
                    second: address,
                });
            }
            Some(_) => {}
            None => peers.push((name, address)),
        }
    }
    peers.sort();
    refuse_shared_addresses(&peers, own_name, own_address)?;
    Ok(peers)
}

/// One item of the list: `name` or `name=host:port`.
fn peer(item: &str) -> Result<(NodeName, Address), ConfigError> {
    let Some((label, at)) = item.split_once('=') else {
        let name = name(item)?;
        let at =
            by_convention(&name).ok_or_else(|| ConfigError::PeerWithoutAddress { name: name.clone() })?;
        return Ok((name, Address::from(&at)));
    };
    let name = name(label.trim())?;
    let at = address::parse("--peers", at.trim())?;
    if at.host.is_empty() || at.is_unspecified() || at.port == 0 {
        return Err(ConfigError::PeerWithoutHost {
            peer: item.to_owned(),
            name,
        });
    }
    Ok((name, Address::from(&at)))
}

fn refuse_shared_addresses(
    peers: &[(NodeName, Address)],
    own_name: &NodeName,
    own_address: &Address,
) -> Result<(), ConfigError> {
    let mut seen = vec![(own_name, own_address)];
    for (name, address) in peers {
        if let Some((first, _)) = seen.iter().find(|(_, taken)| *taken == address) {
            return Err(ConfigError::SharedAddress {
                first: (*first).clone(),
                second: name.clone(),
                address: address.clone(),
            });
        }
        seen.push((name, address));
    }
    Ok(())
}
