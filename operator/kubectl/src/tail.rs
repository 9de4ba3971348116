//! `kubectl danmu tail ROOM`: what is said, a line each.

use std::io::Write;

use danmu_client::{
    Options, Token, Update, Viewer,
    wire::{Chat, Event},
};
use kube::ResourceExt;

use crate::{
    cluster::{Cluster, PUBLIC, ready},
    servers::Servers,
    table::plain,
};

/// By a port-forward to the pod with most of the room's viewers, or any that is Ready.
pub(crate) async fn through(cluster: &Cluster, room: &str, token: Option<String>) -> Result<(), String> {
    let answers = Servers::default().ask(cluster).await;
    let viewers =
        answers.iter().filter_map(|(pod, answer)| Some((answer.as_ref().ok()?.load.rooms.get(room)?, pod)));
    let pod = match viewers.max() {
        Some((_, pod)) => pod.clone(),
        None => ready(&cluster.found.pods).ok_or_else(|| cluster.nobody())?.name_any(),
    };
    let address = cluster.forward(&pod, PUBLIC).await?;
    eprintln!("kubectl danmu: watching {room} on {pod}");
    // It was moved already: the room's public address may lead nowhere from here.
    tail(&format!("ws://{address}/rooms/{room}/ws?moved=1"), room, token).await
}

/// Prints until Ctrl-C or the end.
pub(crate) async fn tail(url: &str, room: &str, token: Option<String>) -> Result<(), String> {
    let options = Options::new(url, room).map_err(|error| error.to_string())?;
    let mut viewer = Viewer::connect(options.token(token.map_or(Token::None, Token::Fixed)));
    loop {
        let update = tokio::select! {
            update = viewer.next() => update,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match update {
            None => return Ok(()),
            Some(Update::Ended(end)) => return Err(format!("{room}: {end}")),
            Some(Update::Waiting { trouble, .. }) => eprintln!("kubectl danmu: {trouble}; connecting again"),
            Some(Update::Joined { joined, lost }) => {
                if lost {
                    eprintln!("kubectl danmu: some gifts or notices are missing here");
                }
                for chat in &joined.history {
                    line(&said(chat))?;
                }
            }
            Some(Update::Event(event)) => {
                if let Some(told) = told(&event) {
                    line(&told)?;
                }
            }
            Some(_) => {}
        }
    }
}

fn line(text: &str) -> Result<(), String> {
    // `| head` went: nothing more to do.
    writeln!(std::io::stdout(), "{}", plain(text)).map_err(|error| format!("nobody reads: {error}"))
}

fn said(chat: &Chat) -> String {
    let times = if chat.n > 1 { format!(" × {}", chat.n) } else { String::new() };
    format!("{}: {}{times}", who(chat.name.as_ref(), chat.user.as_ref()), chat.text)
}

fn who<'a>(name: Option<&'a String>, user: Option<&'a String>) -> &'a str {
    name.or(user).map_or("-", String::as_str)
}

fn told(event: &Event) -> Option<String> {
    Some(match event {
        Event::Chat(chat) => said(chat),
        Event::Gift(gift) => {
            let text = gift.text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            format!(
                "[gift] {} gives {} × {}{text}",
                who(gift.name.as_ref(), gift.user.as_ref()),
                gift.gift,
                gift.count
            )
        }
        Event::Notice(notice) => format!("[notice] {}", notice.text),
        Event::Super(paid) => {
            let price = paid.price.as_deref().unwrap_or("");
            format!("[super {price}] {}: {}", who(paid.name.as_ref(), paid.user.as_ref()), paid.text)
        }
        Event::Custom(custom) => format!("[{}] {}", custom.kind, custom.data),
        Event::Removed(removed) if removed.all => "[removed] everything".to_owned(),
        Event::Removed(removed) => match &removed.user {
            Some(user) => format!("[removed] everything of {user}"),
            None => format!("[removed] {}", removed.ids.join(", ")),
        },
        Event::Gap(gap) => {
            format!("[gap] {} messages were lost here", gap.dropped.map_or("some".into(), |n| n.to_string()))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use danmu_client::wire::{Gift, Removed};

    use super::*;

    #[test]
    fn each_message_is_a_line_with_who_said_it() {
        let chat = Chat { text: "hi".into(), user: Some("u1".into()), n: 3, ..Chat::default() };
        assert_eq!(told(&Event::Chat(chat)).unwrap(), "u1: hi × 3");
        let gift = Gift { gift: "rose".into(), count: 2, name: Some("Ann".into()), ..Gift::default() };
        assert_eq!(told(&Event::Gift(gift)).unwrap(), "[gift] Ann gives rose × 2");
        let removed = Removed { user: Some("u1".into()), ..Removed::default() };
        assert_eq!(told(&Event::Removed(removed)).unwrap(), "[removed] everything of u1");
        assert_eq!(told(&Event::Pong), None);
    }
}
