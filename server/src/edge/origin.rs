//! Which sites may open a viewer's socket. A browser names the site in `Origin`; other clients name none.

use std::net::Ipv6Addr;

use hyper::HeaderMap;
use hyper::header::{HOST, ORIGIN};

/// The sites allowed, as configured.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
enum Rule {
    Any,
    Null,
    Exact(Origin),
    /// Every site under `.domain`; without a scheme, of any scheme.
    Under {
        scheme: Option<String>,
        domain: String,
        port: Option<u16>,
    },
}

/// A browser's origin, in lower case and with its scheme's default port filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origins {
    /// Reads the list: `https://example.com`, `https://example.com:8443`, `*.example.com` or
    /// `https://*.example.com` (every subdomain, not `example.com` itself), `null`, or `*` for any.
    ///
    /// # Errors
    /// One sentence for each entry that can't be read.
    pub fn parse(list: &[String]) -> Result<Origins, Vec<String>> {
        let mut rules = Vec::new();
        let mut wrong = Vec::new();
        for entry in list {
            match rule(&entry.trim().to_ascii_lowercase()) {
                Some(rule) => rules.push(rule),
                None => wrong.push(format!(
                    "origin {entry:?} can't be read: write it as https://example.com, https://example.com:8443, *.example.com, null or *"
                )),
            }
        }
        if wrong.is_empty() { Ok(Origins { rules }) } else { Err(wrong) }
    }

    /// Whether a request with these headers may upgrade. Without `Origin` it may: that is no browser. With
    /// an empty list only the page's own host may.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(ORIGIN).iter();
        let Some(line) = lines.next() else { return true };
        if self.rules.iter().any(|rule| matches!(rule, Rule::Any)) {
            return true;
        }
        let (Ok(line), None) = (line.to_str(), lines.next()) else { return false };
        let line = line.to_ascii_lowercase();
        if line == "null" {
            return self.rules.iter().any(|rule| matches!(rule, Rule::Null));
        }
        let Some(origin) = origin(&line) else { return false };
        if self.rules.is_empty() {
            return is_own_host(&origin, headers);
        }
        self.rules.iter().any(|rule| match rule {
            Rule::Any | Rule::Null => false,
            Rule::Exact(exact) => *exact == origin,
            Rule::Under { scheme, domain, port } => {
                let subdomain = origin.host.strip_suffix(domain).and_then(|host| host.strip_suffix('.'));
                subdomain.is_some_and(|subdomain| !subdomain.is_empty())
                    && scheme.as_ref().is_none_or(|scheme| *scheme == origin.scheme)
                    && port.or(default_port(&origin.scheme)) == origin.port
            }
        })
    }
}

fn is_own_host(origin: &Origin, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    host.as_deref().and_then(host_and_port).is_some_and(|(host, port)| {
        // Behind a TLS proxy we do not know our own scheme, so the origin's says what no port means.
        host == origin.host && port.or(default_port(&origin.scheme)) == origin.port
    })
}

fn rule(entry: &str) -> Option<Rule> {
    match entry {
        "*" => return Some(Rule::Any),
        "null" => return Some(Rule::Null),
        _ => {}
    }
    let (scheme, rest) = match entry.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, entry),
    };
    let Some(domain) = rest.strip_prefix("*.") else { return origin(entry).map(Rule::Exact) };
    if scheme.is_some_and(|scheme| !is_scheme(scheme)) {
        return None;
    }
    let (domain, port) = host_and_port(domain)?;
    Some(Rule::Under { scheme: scheme.map(str::to_owned), domain: domain.to_owned(), port })
}

fn origin(text: &str) -> Option<Origin> {
    let (scheme, rest) = text.split_once("://")?;
    let (host, port) = host_and_port(rest)?;
    is_scheme(scheme).then(|| Origin {
        scheme: scheme.to_owned(),
        host: host.to_owned(),
        port: port.or(default_port(scheme)),
    })
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Splits `host`, `host:port` or `[v6]:port`; `None` if anything else is in it, such as a path or a user.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(end);
    let is_host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.starts_with(|c: char| c.is_ascii_alphanumeric())
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().ok()?),
        None if rest.is_empty() => None,
        _ => return None,
    };
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn allows(list: &[&str], origin: &str, host: &str) -> bool {
        let list: Vec<String> = list.iter().map(|&entry| entry.to_owned()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        Origins::parse(&list).unwrap().allows(&headers)
    }

    #[test]
    fn a_client_that_names_no_origin_may_connect() {
        let only = Origins::parse(&["https://example.com".to_owned()]).unwrap();
        assert!(only.allows(&HeaderMap::new()));
        assert!(Origins::default().allows(&HeaderMap::new()));
    }

    #[test]
    fn an_empty_list_allows_the_own_host_alone() {
        assert!(allows(&[], "https://danmu.example", "danmu.example"));
        assert!(allows(&[], "https://Danmu.example", "danmu.example:443"));
        assert!(allows(&[], "http://localhost:8080", "localhost:8080"));
        assert!(allows(&[], "http://[::1]:8080", "[::1]:8080"));
        assert!(!allows(&[], "http://localhost:8081", "localhost:8080"));
        assert!(!allows(&[], "http://localhost", "localhost:8080"));
        assert!(!allows(&[], "https://evil.example", "danmu.example"));
        assert!(!allows(&[], "null", "null"));
    }

    #[test]
    fn scheme_host_and_port_must_all_match() {
        let list = ["https://Example.com", "http://localhost:3000"];
        for good in ["https://example.com", "HTTPS://EXAMPLE.COM:443", "http://localhost:3000"] {
            assert!(allows(&list, good, "danmu"), "{good}");
        }
        for bad in
            ["http://example.com", "https://example.com:8443", "http://localhost", "https://www.example.com"]
        {
            assert!(!allows(&list, bad, "danmu"), "{bad}");
        }
    }

    #[test]
    fn look_alikes_of_a_listed_site_are_refused() {
        let list = ["https://example.com", "*.example.com"];
        for bad in [
            "https://evilexample.com",
            "https://example.com.evil.net",
            "https://.example.com",
            "https://example.com@evil.net",
            "https://evil.net/.example.com",
            "https://evil.net#.example.com",
            "https://evil.net?a.example.com",
            "https://evil.net:1.example.com",
        ] {
            assert!(!allows(&list, bad, "danmu"), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_covers_subdomains_on_its_scheme_and_port() {
        assert!(allows(&["*.example.com"], "https://a.b.example.com", "danmu"));
        assert!(allows(&["*.example.com"], "http://a.example.com", "danmu"));
        assert!(!allows(&["*.example.com"], "https://example.com", "danmu"));
        assert!(!allows(&["*.example.com"], "https://a.example.com:8443", "danmu"));
        assert!(allows(&["https://*.example.com:8443"], "https://a.example.com:8443", "danmu"));
        assert!(!allows(&["https://*.example.com"], "http://a.example.com", "danmu"));
    }

    #[test]
    fn null_is_refused_unless_listed_and_a_star_allows_any() {
        assert!(!allows(&["https://example.com"], "null", "danmu"));
        assert!(allows(&["https://example.com", "null"], "null", "danmu"));
        assert!(!allows(&["null"], "https://example.com", "danmu"));
        assert!(allows(&["*"], "https://anywhere.example", "danmu"));
        assert!(allows(&["*"], "null", "danmu"));
    }

    #[test]
    fn garbage_and_two_origins_are_refused() {
        for bad in
            ["", "example.com", "https://", "://example.com", "https://example.com:", "弾幕", "https://a b"]
        {
            assert!(!allows(&["https://example.com"], bad, "danmu"), "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(ORIGIN, HeaderValue::from_static("https://example.com"));
        headers.append(ORIGIN, HeaderValue::from_static("https://evil.net"));
        assert!(!Origins::parse(&["https://example.com".to_owned()]).unwrap().allows(&headers));
    }

    #[test]
    fn every_unreadable_entry_of_the_list_is_named() {
        let list =
            ["https://example.com", "example.com", "https://a/b", "*.", "*.*.com", "https://a:+80", ""];
        let wrong = Origins::parse(&list.map(str::to_owned)).unwrap_err();
        assert_eq!(wrong.len(), 6, "{wrong:?}");
        assert!(wrong[0].contains("\"example.com\""));
    }
}
