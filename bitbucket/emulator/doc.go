// Package emulator emulates Bitbucket Cloud in memory over real HTTP: runners (REST API
// 2.0 and the older internal routes), pipelines, steps and their source file, workspaces
// and repositories, webhooks, OAuth, rate limits, and the queue that assigns steps to
// runners. If Bitbucket's behaviour is not documented, the emulator shows the behaviour that
// is most difficult for a client, and Options has the other one.
//
// In addition to Bitbucket's routes it has controls under /_emulator, which queue steps,
// push commits, register webhooks, inject faults, set a runner's state by hand and return
// the emulator's state. Control is their Go client.
//
// This package has the routes, the runners and the queue. What needs neither lock nor clock
// is in the packages below it: pipelines (the life and the JSON of pipelines and steps),
// definition (bitbucket-pipelines.yml), condition, plan (how steps go), push, source, webhooks,
// registration, access, faults, fields, paging, peaks, resource (JSON that several share), and
// agent, the protocol of the stand-in runner, which is in package standin. The emulator writes nothing to disk.
//
// The package shares no code with the client in package bitbucket. Both were written
// from the documentation, so that each reveals mistakes in the other.
package emulator
