//! Danmu's client, for systems that publish to rooms and for programs that watch them.
//!
//! [`Publisher`] speaks to the admin API: gifts, notices, paid messages, moderation. [`Viewer`] is one viewer
//! of one room, with everything the protocol asks of one: it comes back after a cut with its position, moves
//! when it is asked to, and lets every message through once. Both speak in the words of [`danmu_wire`].
//!
//! ```no_run
//! use danmu_client::{Options, Publish, Publisher, Update, Viewer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let publisher = Publisher::new("http://127.0.0.1:9090", "the admin token")?;
//! publisher.publish("finals", &Publish::notice("Kick-off in five minutes")).await?;
//!
//! let mut viewer = Viewer::connect(Options::new("http://127.0.0.1:8080", "finals")?);
//! viewer.say("good luck")?;
//! while let Some(update) = viewer.next().await {
//!     match update {
//!         Update::Event(event) => println!("{event:?}"),
//!         Update::Ended(end) => println!("{end}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod backoff;
mod connect;
mod http;
mod link;
mod moderation;
mod options;
mod position;
mod process;
mod publisher;
mod viewer;

pub use connect::Trouble;
pub use danmu_wire as wire;
pub use http::{Fault, Retries};
pub use moderation::{Held, Outcome, Trial, Word};
pub use options::{BadAddress, Options, Token};
pub use process::Load;
pub use publisher::{Publish, Published, Publisher};
pub use viewer::{End, Full, Update, Viewer};
