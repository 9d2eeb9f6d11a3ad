use super::options::ElasticError;
use super::*;
use crate::secret::Secret;

#[test]
fn urls_and_credentials_that_cannot_be_used_are_refused_without_being_printed() {
    for url in [
        "",
        "localhost:9200",
        "ftp://x",
        "http://user:canary@x:9200",
        "http://x:9200/?a=canary",
        "http://a,,",
    ] {
        let error = ElasticSink::new(&ElasticOptions::new(url)).unwrap_err();
        assert!(matches!(error, ElasticError::Url { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    for key in ["", "can ary", "canary\n", "cänary"] {
        let mut options = ElasticOptions::new("http://localhost:9200");
        options.auth = Auth::ApiKey(Secret::new(key).into());
        assert!(matches!(ElasticSink::new(&options), Err(ElasticError::Credentials { .. })), "{key:?}");
    }
    let mut options = ElasticOptions::new("http://localhost:9200");
    options.ca_file = Some("/nowhere/ca.pem".into());
    let error = ElasticSink::new(&options).unwrap_err();
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn several_nodes_of_a_cluster_are_taken_each_once() {
    let of = |urls: &[&str]| {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        ElasticSink::new(&ElasticOptions { urls, ..ElasticOptions::new("") }).map(drop)
    };
    assert!(of(&["http://a:9200", "https://b:9200/es"]).is_ok());
    for urls in
        [&[][..], &["http://a,b:9200"], &["http://a:9200", "http://a:9200/"], &["http://a", "http://A:80"]]
    {
        assert!(matches!(of(urls), Err(ElasticError::Url { .. })), "{urls:?}");
    }
}
