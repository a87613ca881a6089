package wrapper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

func TestTheExitCodeIsTheRunners(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		want   int
	}{
		"success":           {"exit 0", 0},
		"failure":           {"exit 7", 7},
		"ended by a signal": {"kill -KILL $$", 137},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveEnvironment(t)
			if code := sidecartest.StartExec(t, s.dir, tc.script).ExitCode(t); code != tc.want {
				t.Errorf("exit code %d, want %d", code, tc.want)
			}
			if got := s.messages(); !slices.Contains(got, socket.TypeEnded) {
				t.Errorf("messages %q, want the runner's end among them", got)
			}
		})
	}
}

func TestReportsEachStateToTheSidecar(t *testing.T) {
	s := serveEnvironment(t)
	e := sidecartest.StartExec(t, s.dir, `echo "$OAUTH_CLIENT_SECRET $HOME"; `+sidecartest.Online+sidecartest.Step+sidecartest.Completed+"exit 0")
	e.ExitCode(t)
	if want := secret + " /of/the/runner\n"; !strings.HasPrefix(e.Stdout.String(), want) {
		t.Errorf("environment %q, want %q first", e.Stdout.String(), want)
	}
	want := []string{"fetch", "state idle", "state busy " + sidecartest.StepUUID, "state idle", "ended"}
	if diff := cmp.Diff(want, s.messages()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestReportsTheCurrentStateAfterALostConnection(t *testing.T) {
	s := serveEnvironment(t)
	e := sidecartest.StartExec(t, s.dir, sidecartest.Online+sidecartest.Step+sidecartest.Forever)
	s.waitFor(t, "state busy "+sidecartest.StepUUID)
	s.breakConnections()
	sidecartest.Eventually(t, "exec has sent the state again", func() bool {
		got := s.messages()
		return len(got) > 3 && got[len(got)-1] == "state busy "+sidecartest.StepUUID
	})
	s.stop("surplus")
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestStartsNoRunnerUnlessItHasTheEnvironment(t *testing.T) {
	for name, tc := range map[string]struct {
		answer socket.Message
		code   int
	}{
		"finish":  {socket.Message{Type: socket.TypeFinish, Reason: "one too many"}, 0},
		"refused": {socket.Message{Type: socket.TypeRefused, Reason: "another client has it"}, failure},
	} {
		t.Run(name, func(t *testing.T) {
			e := sidecartest.StartExec(t, serveFake(t, tc.answer).dir, "echo started")
			if code := e.ExitCode(t); code != tc.code || e.Stdout.String() != "" {
				t.Errorf("exit code %d and output %q, want %d and none", code, e.Stdout.String(), tc.code)
			}
		})
	}
}

func TestACommandThatCannotBeStartedIsNamed(t *testing.T) {
	e := sidecartest.Start(t, "exec", serveEnvironment(t).dir, "/no/such/entrypoint")
	if code := e.ExitCode(t); code == 0 || !strings.Contains(e.Stderr.String(), "/no/such/entrypoint") || strings.Contains(e.Stderr.String(), secret) {
		t.Errorf("exit code %d and %q, want a failure that names the command and not the secret", code, e.Stderr.String())
	}
}

func TestSignalsReachTheWholeProcessGroup(t *testing.T) {
	e := sidecartest.StartExec(t, serveEnvironment(t).dir, `trap 'echo caught; exit 3' TERM; `+sidecartest.Forever)
	pid := e.Child(t)
	e.Signal(t, syscall.SIGTERM)
	if code := e.ExitCode(t); code != 3 {
		t.Errorf("exit code %d, want the handler's 3", code)
	}
	if !strings.Contains(e.Stdout.String(), "caught") {
		t.Errorf("output %q, want the handler's", e.Stdout.String())
	}
	sidecartest.Eventually(t, "the runner's child is gone", func() bool { return sidecartest.Gone(pid) })
}

func TestStopKillsARunnerThatDoesNotEnd(t *testing.T) {
	s := serveEnvironment(t)
	e := sidecartest.StartExec(t, s.dir, `trap '' TERM; `+sidecartest.Online+sidecartest.Forever)
	pid := e.Child(t)
	s.waitFor(t, "state idle")
	s.stop("surplus")
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	sidecartest.Eventually(t, "the runner's child is gone", func() bool { return sidecartest.Gone(pid) })
}

func TestOrphansAreReaped(t *testing.T) {
	// The subshell leaves its child to process 1 and ends.
	e := sidecartest.StartExec(t, serveEnvironment(t).dir, `(sleep 0.1 & echo child $!); sleep 1000 & wait`)
	pid := e.Child(t)
	sidecartest.Eventually(t, "the orphan is gone and not a zombie", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		return errors.Is(err, fs.ErrNotExist)
	})
	e.Signal(t, syscall.SIGTERM)
	e.ExitCode(t)
}

func TestGivesUpWithoutASidecar(t *testing.T) {
	config := Config{Dir: sidecartest.Folder(t), Command: []string{"true"}, ConnectTimeout: 50 * time.Millisecond, Stdout: os.Stdout, Stderr: os.Stderr}
	if code, err := Exec(t.Context(), config); code == 0 || err == nil || !strings.Contains(err.Error(), "no sidecar for 50ms") {
		t.Errorf("exit code %d and error %v, want a failure", code, err)
	}
}

// The end of process 1 would kill the hook, which runs in the same container.
func TestProcessOneOutlivesThePreStopHook(t *testing.T) {
	s := serveEnvironment(t)
	e := sidecartest.StartExec(t, s.dir, sidecartest.Online+sidecartest.Forever)
	s.waitFor(t, "state idle")
	s.broadcast(socket.Message{Type: socket.TypeStop, Reason: "the pod ends", Terminating: true})
	s.waitFor(t, "ended")
	<-time.After(signalWait / 10) // a process that does not wait would end meanwhile
	if sidecartest.Gone(e.Process.Pid) {
		t.Error("process 1 ended with its runner, before the kubelet's signal")
	}
	began := time.Now()
	e.Signal(t, syscall.SIGTERM)
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(began); took > signalWait*8/10 {
		t.Errorf("process 1 ended %s after the kubelet's signal, want at once", took)
	}
}
