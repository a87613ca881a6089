// The package "@coderabbitai/bitbucket", made from Bitbucket's OpenAPI schema.
import { createBitbucketCloudClient } from "@coderabbitai/bitbucket/cloud";

const { BASE, TOKEN } = process.env;
const client = createBitbucketCloudClient({ baseUrl: BASE + "/2.0", headers: { Authorization: `Bearer ${TOKEN}`, Accept: "application/json" } });

const repo = { workspace: "acme", repo_slug: "app" };
const pipelines = "/repositories/{workspace}/{repo_slug}/pipelines";

async function call(method, path, params, more = {}) {
  const { data, error, response } = await client[method](path, { params, ...more });
  if (error !== undefined || !response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(error)}`);
  return data;
}

async function pages(path, params, query, name) {
  const found = [];
  for (let page = 1; ; page++) {
    const data = await call("GET", path, { path: params, query: { ...query, page, pagelen: 10 } });
    found.push(...data.values.map((value) => value[name]));
    if (page * 10 >= data.size) return found;
  }
}

const byNumber = await call("GET", pipelines + "/{pipeline_uuid}", { path: { ...repo, pipeline_uuid: "1" } });
const one = { ...repo, pipeline_uuid: byNumber.uuid };
const steps = (await call("GET", pipelines + "/{pipeline_uuid}/steps", { path: one })).values;
const step = { ...one, step_uuid: steps[0].uuid };
const started = await call("POST", pipelines, { path: repo }, {
  body: { target: { type: "pipeline_ref_target", ref_type: "branch", ref_name: "main" } },
});
const begun = { ...repo, pipeline_uuid: started.uuid };
await call("POST", pipelines + "/{pipeline_uuid}/stopPipeline", { path: begun });

console.log(
  JSON.stringify({
    workspaceRunners: await pages("/workspaces/{workspace}/pipelines-config/runners", { workspace: "acme" }, {}, "name"),
    repositoryRunners: await pages("/repositories/{workspace}/{repo_slug}/pipelines-config/runners", repo, {}, "name"),
    pipelines: await pages(pipelines, repo, { sort: "-created_on" }, "build_number").then((all) => all.filter((n) => n !== started.build_number)),
    byUUID: (await call("GET", pipelines + "/{pipeline_uuid}", { path: one })).build_number,
    byNumber: byNumber.uuid,
    steps: steps.map((st) => st.uuid),
    step: (await call("GET", pipelines + "/{pipeline_uuid}/steps/{step_uuid}", { path: step })).state.name,
    log: await call("GET", pipelines + "/{pipeline_uuid}/steps/{step_uuid}/log", { path: step }, { parseAs: "text" }),
    started: started.build_number,
    stopped: (await call("GET", pipelines + "/{pipeline_uuid}", { path: begun })).state.result.name,
  }),
);
