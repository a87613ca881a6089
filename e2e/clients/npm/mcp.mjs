// The package "bitbucket-mcp", a server of the Model Context Protocol, called as an editor
// calls it. It knows no runners. It stops pipelines at a path that Bitbucket does not have.
import { createRequire } from "node:module";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const { BASE, TOKEN, PATH } = process.env;
const client = new Client({ name: "test", version: "1.0.0" }, { capabilities: {} });
await client.connect(
  new StdioClientTransport({
    command: process.execPath,
    args: [createRequire(import.meta.url).resolve("bitbucket-mcp")],
    env: { PATH, BITBUCKET_URL: BASE + "/2.0", BITBUCKET_TOKEN: TOKEN, BITBUCKET_LOG_DISABLE: "true" },
  }),
);

const repo = { workspace: "acme", repo_slug: "app" };
async function tool(name, more) {
  const { content } = await client.callTool({ name, arguments: { ...repo, ...more } });
  return content[0].text;
}
const read = async (name, more) => JSON.parse(await tool(name, more));

const numbers = [];
for (let page = 1; ; page++) {
  const values = await read("listPipelineRuns", { page, pagelen: 10 });
  numbers.push(...values.map((pipeline) => pipeline.build_number));
  if (values.length < 10) break;
}
const byNumber = await read("getPipelineRun", { pipeline_uuid: "1" });
const one = { pipeline_uuid: byNumber.uuid };
const steps = await read("getPipelineSteps", one);
const step = { ...one, step_uuid: steps[0].uuid };
const started = await read("runPipeline", { target: { ref_type: "branch", ref_name: "main" } });
let stopped = "";
try {
  stopped = await tool("stopPipeline", { pipeline_uuid: started.uuid });
} catch (error) {
  stopped = error.message;
}

console.log(
  JSON.stringify({
    pipelines: numbers.reverse(),
    byUUID: (await read("getPipelineRun", one)).build_number,
    byNumber: byNumber.uuid,
    steps: steps.map((st) => st.uuid),
    step: (await read("getPipelineStep", step)).state.name,
    log: await tool("getPipelineStepLogs", step),
    started: started.build_number,
    stopped,
    building: (await read("listPipelineRuns", { status: "BUILDING" })).map((pipeline) => pipeline.build_number),
  }),
);
await client.close();
