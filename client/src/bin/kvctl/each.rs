//! One question to many nodes at once, each for itself.

use std::num::NonZeroUsize;

use raftkv_client::{Client, Error};
use tokio::task::JoinSet;

use crate::arguments::Options;

/// What the node at each of these addresses answers; in no order. No node is asked in place of another, and none twice.
///
/// # Errors
/// When an address is none.
pub(crate) async fn ask_each<T: Send + 'static, F>(
    options: &Options,
    addresses: impl IntoIterator<Item = String>,
    ask: impl Fn(Client) -> F,
) -> Result<Vec<(String, Result<T, Error>)>, Error>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut asking = JoinSet::new();
    for address in addresses {
        let builder = Client::builder()
            .endpoints([address.as_str()])
            .timeout(options.timeout)
            .attempts(NonZeroUsize::MIN);
        let client = options.tls.apply(builder).build()?;
        let answer = ask(client);
        asking.spawn(async move { (address, answer.await) });
    }
    Ok(asking.join_all().await)
}
