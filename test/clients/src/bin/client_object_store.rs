//! Prints the credential that object_store (polars, deltalake, datafusion) finds in its environment, then stores an object with it.
//! Usage: client_object_store S3_ENDPOINT BUCKET [OPTION=VALUE...], the options being object_store's own

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ObjectStoreExt, PutPayload, path::Path};
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoint), Some(bucket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: client_object_store S3_ENDPOINT BUCKET [OPTION=VALUE...]".into());
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(bucket);
    for argument in arguments {
        let (key, value) = argument
            .split_once('=')
            .ok_or("an option is OPTION=VALUE")?;
        builder = builder.with_config(key.parse::<AmazonS3ConfigKey>()?, value);
    }
    let store = builder.build()?;

    let credential = store.credentials().get_credential().await?;
    store
        .put(&Path::from("object_store"), PutPayload::from_static(b"x"))
        .await?;

    println!(
        "{}",
        serde_json::json!({
            "AccessKeyId": credential.key_id,
            "SecretAccessKey": credential.secret_key,
            "Token": credential.token,
        })
    );
    Ok(())
}
