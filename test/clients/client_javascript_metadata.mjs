// Requests the credentials with JavaScript's metadata client, path by path, and prints them: client_javascript_metadata.mjs

import { createRequire } from "node:module";

// The packages are in target/node, where `import` does not look.
const require = createRequire(new URL("../../target/node/", import.meta.url));
const { MetadataService } = require("@aws-sdk/ec2-metadata-service");

const metadata = new MetadataService();
const list = "/latest/meta-data/iam/security-credentials/";
try {
    console.log(await metadata.request(list + (await metadata.request(list, {})), {}));
} catch (error) {
    console.error(`${error.name}: ${error.message}`);
    process.exitCode = 1;
}
