// Package sidecar is what runs inside a runner Job: the native sidecar, which
// registers the pod's runner with the control plane, follows its state and takes
// it away again, and the exec wrapper, process 1 of the runner container, which
// starts the runner with an environment that it alone is given. What the control
// plane decides, and all of Kubernetes and Bitbucket, is elsewhere: the sidecar
// speaks runner/v1 and nothing else.
//
// # Between sidecar and exec
//
// The two share one folder. In it the sidecar puts its own binary ("sidecar"),
// so that the runner's image need not know of it, the socket "sidecar.sock", and
// the marker "handed-out" (JSON with the runner's UUID and name, no secret).
//
// Over the socket go JSON objects, one a line, each with a "type". What a client
// says first tells what it is:
//
//	{"type":"ready"}                  asks whether the Job may go on. Answer: {"type":"ready","ready":true}
//	{"type":"fetch"}                  exec, before it starts the runner. Answered once it is known what
//	                                  becomes of the Job, by one of
//	                                    {"type":"environment","environment":{…}}   to one client only, ever
//	                                    {"type":"finish","reason":"…"}             start nothing
//	                                    {"type":"refused","reason":"…"}            it was handed out before
//	{"type":"drain"}                  the preStop hook. Answered {"type":"drained"} once the runner has
//	                                  ended, or none was ever started
//	{"type":"state","state":"idle"}   exec, after the connection broke: its present state
//
// After "environment" or a first "state" the connection stays open. Up go
// {"type":"state","state":"starting|idle|busy|stopping|unknown","step":"{…}"}, with
// "steps_begun" and "unrecognized_output" as in runner/v1, and at last
// {"type":"ended","exit_code":0}; down goes {"type":"stop","reason":"…"}, again
// after each reconnection, with "terminating":true where the hook waits for the end.
//
// The marker is written before the environment is handed out. A sidecar that
// finds it at its start never registers: a runner may be running.
package sidecar
