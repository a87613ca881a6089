// Package socket is the protocol that the sidecar and the processes of the runner
// container speak over a unix socket: its messages, its connections, the reports
// about the runner that travel over it, and the back-off with which both sides
// try again. It does not know what either side does with a message.
//
// # Messages
//
// The socket is the file "sidecar.sock" in the folder that both containers share.
// Each message is a JSON object on a line of its own, with a "type". The first
// message of a client says what the client wants:
//
//	{"type":"ready"}                  Startup probe. The sidecar answers {"type":"ready","ready":true}
//	                                  once the Job may go on, else with "ready" left out. With
//	                                  "wait":true it answers when the Job may go on.
//	{"type":"fetch"}                  `sidecar exec`, before it starts the runner. The sidecar answers
//	                                  once the control plane has decided about the Job, with one of
//	                                    {"type":"environment","environment":{…}}   to one client only
//	                                    {"type":"finish","reason":"…"}             start nothing
//	                                    {"type":"refused","reason":"…"}            another client has it
//	{"type":"drain"}                  PreStop hook. The sidecar answers {"type":"drained"} once the
//	                                  runner has ended or can no longer start.
//	{"type":"state","state":"idle"}   `sidecar exec`, after it has lost a connection: the current state.
//
// The connection stays open after "environment" or after a first "state". `sidecar
// exec` then sends
//
//	{"type":"state","state":"starting|idle|busy|stopping|unknown","step":"{…}"}
//
// with "steps_begun" and "unrecognized_output" as in runner/v1, and at the end
// {"type":"ended","exit_code":0}, with "last_line" if the runner has had no step. The sidecar sends {"type":"stop","reason":"…"},
// again after each reconnection, with "terminating":true if a preStop hook waits
// for the runner's end.
package socket
