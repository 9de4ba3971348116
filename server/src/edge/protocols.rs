//! What a client offers in `Sec-WebSocket-Protocol`: a format for its frames, and maybe its token.

use danmu_wire::{PROTOCOL_TOKEN_PREFIX, frame::Format};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

/// Most sub-protocols a client may offer; ours offers two and a token.
const MAX_ENTRIES: usize = 8;

/// What the client asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// How the client wants its frames.
    pub format: Format,
    /// The sub-protocol to answer with; `None` if the client offered none, and then none is answered.
    pub selected: Option<&'static str>,
    /// The client's token, not yet verified. It is never echoed.
    pub token: Option<String>,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A token in a log is a login in a log.
        let token = self.token.as_ref().map(|_| "[redacted]");
        f.debug_struct("Offer")
            .field("format", &self.format)
            .field("selected", &self.selected)
            .field("token", &token)
            .finish()
    }
}

/// Why an offer can't be answered; each is a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOffer {
    /// A browser fails the connection unless an offered protocol is selected, and these can't be.
    #[error(
        "Sec-WebSocket-Protocol has no protocol this server speaks: offer danmu.v1.json or danmu.v1.deflate"
    )]
    NothingToSelect,
    /// More entries than any client needs.
    #[error("Sec-WebSocket-Protocol has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// A header that is not plain ASCII text.
    #[error("Sec-WebSocket-Protocol or Authorization is not plain ASCII text")]
    NotText,
    /// Which token would count is anyone's guess.
    #[error("more than one token was sent: send one, as a token.* protocol or in Authorization")]
    TwoTokens,
}

/// Reads the offer from an upgrade request's headers. The first `danmu.v1.*` offered wins; with no
/// sub-protocol at all the format is JSON.
///
/// # Errors
/// [`BadOffer`]: the request should be answered with 400.
pub fn offer(headers: &HeaderMap) -> Result<Offer, BadOffer> {
    let mut format = None;
    let mut token = None;
    let mut entries = 0;
    for line in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let line = line.to_str().map_err(|_| BadOffer::NotText)?;
        for entry in line.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(BadOffer::TooMany);
            }
            if let Some(offered) = entry.strip_prefix(PROTOCOL_TOKEN_PREFIX) {
                set_token(&mut token, offered)?;
            } else if format.is_none() {
                format = Format::ALL.into_iter().find(|format| format.protocol() == entry);
            }
        }
    }
    if format.is_none() && entries > 0 {
        return Err(BadOffer::NothingToSelect);
    }
    for line in headers.get_all(AUTHORIZATION) {
        let line = line.to_str().map_err(|_| BadOffer::NotText)?;
        // Other schemes are a proxy's business.
        if let Some((scheme, bearer)) = line.trim().split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            set_token(&mut token, bearer.trim())?;
        }
    }
    Ok(Offer { format: format.unwrap_or_default(), selected: format.map(Format::protocol), token })
}

/// Keeps `offered`; the same token in both places is still one token.
fn set_token(token: &mut Option<String>, offered: &str) -> Result<(), BadOffer> {
    if token.as_deref().is_some_and(|token| token != offered) {
        return Err(BadOffer::TwoTokens);
    }
    *token = Some(offered.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn offered(lines: &[&str], authorization: Option<&str>) -> Result<Offer, BadOffer> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        }
        offer(&headers)
    }

    fn answer(format: Format, token: Option<&str>) -> Result<Offer, BadOffer> {
        Ok(Offer { format, selected: Some(format.protocol()), token: token.map(str::to_owned) })
    }

    #[test]
    fn no_offer_means_json_and_no_protocol_in_the_answer() {
        assert_eq!(offered(&[], None), Ok(Offer { format: Format::Json, selected: None, token: None }));
        assert_eq!(offered(&[""], None), offered(&[], None));
    }

    #[test]
    fn the_first_known_protocol_wins_over_lists_and_lines() {
        assert_eq!(offered(&["danmu.v1.deflate, danmu.v1.json"], None), answer(Format::Deflate, None));
        assert_eq!(
            offered(&["danmu.v9.x", "danmu.v1.json,danmu.v1.deflate"], None),
            answer(Format::Json, None)
        );
    }

    #[test]
    fn a_token_is_taken_from_a_protocol_or_from_authorization() {
        assert_eq!(
            offered(&["token.a.b.c", "danmu.v1.deflate"], None),
            answer(Format::Deflate, Some("a.b.c"))
        );
        assert_eq!(offered(&["danmu.v1.json"], Some("bearer a.b.c")), answer(Format::Json, Some("a.b.c")));
        assert_eq!(
            offered(&["danmu.v1.json, token.a.b.c"], Some("Bearer a.b.c")),
            answer(Format::Json, Some("a.b.c"))
        );
        assert_eq!(offered(&["danmu.v1.json"], Some("Basic dTpw")), answer(Format::Json, None));
    }

    #[test]
    fn an_offer_without_a_known_protocol_is_bad() {
        assert_eq!(offered(&["token.a.b.c"], None), Err(BadOffer::NothingToSelect));
        assert_eq!(offered(&["DANMU.V1.JSON"], None), Err(BadOffer::NothingToSelect));
    }

    #[test]
    fn two_different_tokens_are_bad() {
        assert_eq!(offered(&["danmu.v1.json, token.a, token.b"], None), Err(BadOffer::TwoTokens));
        assert_eq!(offered(&["danmu.v1.json, token.a"], Some("Bearer b")), Err(BadOffer::TwoTokens));
    }

    #[test]
    fn more_than_eight_entries_or_bytes_that_are_no_text_are_bad() {
        assert!(offered(&["danmu.v1.json,a,b,c", "d,e,f,g"], None).is_ok());
        assert_eq!(offered(&["danmu.v1.json,a,b,c", "d,e,f,g,h"], None), Err(BadOffer::TooMany));
        assert_eq!(offered(&["danmu.v1.json, 弾幕"], None), Err(BadOffer::NotText));
    }

    #[test]
    fn a_token_is_not_printed() {
        let printed = format!("{:?}", offered(&["danmu.v1.json, token.s3cret"], None));
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}
