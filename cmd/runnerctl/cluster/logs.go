package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
)

const (
	// mostPods is how many pods' logs are read at once.
	mostPods = 20
	// maxLine bounds one line, in bytes.
	maxLine = 1 << 20
	// mostLines bounds what is sorted by time without --follow.
	mostLines = 200_000
)

type logsFlags struct {
	target
	follow, timestamps bool
	since              time.Duration
	tail               int
	container          string
}

func logsCommand(s Settings) *cobra.Command {
	c := &cobra.Command{
		Use:   "logs GROUP|RUNNER",
		Short: "Show the logs of sidecar and runner together, in the order of time",
		Long: `logs joins the logs of the sidecar and of the runner of all pods of a group, or of one
runner, which may be named by its name, its UUID, its pod or its Job. Each line begins
with its pod and container. Pods that have ended are shown as long as Kubernetes keeps
them. You need the right to get pods and pods/log in the namespace of the group.

` + convention,
		Example: `  runnerctl logs builds/linux --tail 50
  runnerctl logs linux-x7k2p-9qzvd --follow`,
	}
	f := &logsFlags{}
	set := command.Flags(c, "RUNNERCTL", s.Lookup)
	f.define(set)
	set.Bool(&f.follow, "follow", "f", "go on until it is interrupted, or all pods have ended")
	set.Bool(&f.timestamps, "timestamps", "", "begin each line with its time")
	set.Duration(&f.since, "since", 0, 0, "only lines of the last `duration`; 0 for all")
	set.Int(&f.tail, "tail", 200, 0, "how many of the last lines of each container to begin with; 0 for all")
	set.Choice(&f.container, "container", "c", "both", "which container", "both", "sidecar", "runner", "docker")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		f.check(set)
		if len(args) != 1 {
			set.Fault("%d arguments, want one GROUP or RUNNER", len(args))
		}
		if err := set.Err(); err != nil {
			return err
		}
		return s.UntilInterrupted(c.Context(), func(ctx context.Context) error { return f.run(ctx, args[0], c.OutOrStdout()) })
	}
	return c
}

// stream is the log of one container.
type stream struct {
	pod       corev1.Pod
	container string
}

// line is one line of a log, with the time at which the container wrote it.
type line struct {
	at   time.Time
	text string
}

func (f *logsFlags) run(ctx context.Context, given string, stdout io.Writer) error {
	client, err := f.kubernetes()
	if err != nil {
		return err
	}
	pods, err := f.pods(ctx, client, given)
	if err != nil {
		return err
	}
	if len(pods) > mostPods {
		if f.follow {
			return exit.With(exit.Unclear, fmt.Errorf("%s has %d pods, and the logs of at most %d can be followed: name one runner", given, len(pods), mostPods))
		}
		pods = pods[len(pods)-mostPods:] // the newest
	}
	var streams []stream
	for _, pod := range pods {
		for _, container := range f.containers() {
			streams = append(streams, stream{pod, container})
		}
	}
	if f.follow {
		return f.followAll(ctx, client, streams, stdout)
	}
	return f.showAll(ctx, client, streams, stdout)
}

func (f *logsFlags) containers() []string {
	if f.container == "both" {
		return []string{"sidecar", "runner"}
	}
	return []string{f.container}
}

// read calls each for every line of a log. A container that has not started has none.
func (f *logsFlags) read(ctx context.Context, client kubernetes.Interface, s stream, each func(line) error) error {
	options := &corev1.PodLogOptions{Container: s.container, Follow: f.follow, Timestamps: true}
	if f.since > 0 {
		seconds := int64(max(1, f.since.Seconds()))
		options.SinceSeconds = &seconds
	}
	if f.tail > 0 {
		tail := int64(f.tail)
		options.TailLines = &tail
	}
	log, err := client.CoreV1().Pods(s.pod.Namespace).GetLogs(s.pod.Name, options).Stream(ctx)
	switch {
	case apierrors.IsBadRequest(err), apierrors.IsNotFound(err):
		return each(line{time.Now(), fmt.Sprintf("%s %s: no log: %v", s.pod.Name, s.container, err)})
	case err != nil:
		return fmt.Errorf("log of %s %s: %w", s.pod.Name, s.container, err)
	}
	defer func() { _ = log.Close() }()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		stamp, text, _ := strings.Cut(lines.Text(), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			text = lines.Text()
		}
		if f.timestamps {
			text = at.Format("2006-01-02T15:04:05.000Z") + " " + text
		}
		if err := each(line{at, s.pod.Name + " " + s.container + ": " + text}); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("log of %s %s: %w", s.pod.Name, s.container, err)
	}
	return nil
}

// showAll shows all logs in the order of time.
func (f *logsFlags) showAll(ctx context.Context, client kubernetes.Interface, streams []stream, stdout io.Writer) error {
	var lines []line
	var faults []error
	for _, s := range streams {
		if err := f.read(ctx, client, s, func(l line) error {
			if len(lines) >= mostLines {
				return fmt.Errorf("more than %d lines: use --tail or --since", mostLines)
			}
			lines = append(lines, l)
			return nil
		}); err != nil {
			faults = append(faults, err)
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		if _, err := fmt.Fprintln(stdout, l.text); err != nil {
			return err
		}
	}
	return exit.With(exit.Unclear, errors.Join(faults...))
}

// followAll shows the lines of all logs as they come.
func (f *logsFlags) followAll(ctx context.Context, client kubernetes.Interface, streams []stream, stdout io.Writer) error {
	var writing sync.Mutex
	reading, ctx := errgroup.WithContext(ctx)
	for _, s := range streams {
		reading.Go(func() error {
			return f.read(ctx, client, s, func(l line) error {
				writing.Lock()
				defer writing.Unlock()
				_, err := fmt.Fprintln(stdout, l.text)
				return err
			})
		})
	}
	return exit.With(exit.Unclear, reading.Wait())
}
