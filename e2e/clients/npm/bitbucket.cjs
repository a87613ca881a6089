// The package "bitbucket". It has no functions for runners, but calls any route.
const { Bitbucket } = require("bitbucket");

const { BASE, TOKEN } = process.env;

async function main() {
  const client = new Bitbucket({ baseUrl: BASE + "/2.0", auth: { token: TOKEN }, notice: false });
  const repo = { workspace: "acme", repo_slug: "app" };
  const all = async (first) => {
    const names = [];
    let { data } = await first;
    for (;;) {
      names.push(...data.values.map((runner) => runner.name));
      if (!client.hasNextPage(data)) return names;
      ({ data } = await client.getNextPage(data));
    }
  };
  const numbers = [];
  for (let page = 1; ; page++) {
    const { data } = await client.pipelines.list({ ...repo, page, sort: "-created_on" });
    numbers.push(...data.values.map((pipeline) => pipeline.build_number));
    if (page * data.pagelen >= data.size) break;
  }
  const one = { ...repo, pipeline_uuid: (await client.pipelines.get({ ...repo, pipeline_uuid: "1" })).data.uuid };
  const steps = (await client.pipelines.listSteps(one)).data.values;
  const step = { ...one, step_uuid: steps[0].uuid };
  const started = (
    await client.pipelines.create({
      ...repo,
      _body: { target: { type: "pipeline_ref_target", ref_type: "branch", ref_name: "main" } },
    })
  ).data;
  const begun = { ...repo, pipeline_uuid: started.uuid };
  await client.pipelines.stop(begun);
  const log = (await client.pipelines.getStepLog(step)).data;
  console.log(
    JSON.stringify({
      workspaceRunners: await all(client.request("GET /workspaces/{workspace}/pipelines-config/runners", { workspace: "acme" })),
      repositoryRunners: await all(client.request("GET /repositories/{workspace}/{repo_slug}/pipelines-config/runners", repo)),
      pipelines: numbers,
      byUUID: (await client.pipelines.get(one)).data.build_number,
      byNumber: one.pipeline_uuid,
      steps: steps.map((st) => st.uuid),
      step: (await client.pipelines.getStep(step)).data.state.name,
      log: typeof log === "string" ? log : Buffer.from(log).toString(),
      started: started.build_number,
      stopped: (await client.pipelines.get(begun)).data.state.result.name,
    }),
  );
}

main();
