package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

type explainFlags struct {
	target
	decisions int
}

func explainCommand(s Settings) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain NAMESPACE/GROUP | step URL|UUID",
		Short: "Say why a group has the runners that it has, or why a step does not start",
		Long: `explain NAMESPACE/GROUP says in a sentence each what was decided last for a group, and
from which numbers. explain step says what a step waits for: a runner of which group, and
why there is none yet; which label no group has; the steps, the person or the lock before
it. URL is the address of a step or of a whole pipeline at Bitbucket, as the browser shows
it; UUID is the step's.

` + convention + `

Exit codes: 0 it is explained; 1 the group or step is not known; 2 wrong command line, or
the scaler could not be asked.`,
		Example: `  runnerctl explain builds/linux
  runnerctl explain step https://bitbucket.org/acme/app/pipelines/results/812
  runnerctl explain step {c3df9272-4777-476a-b869-376694f6c7e5}`,
	}
	f := &explainFlags{}
	set := command.Flags(c, "RUNNERCTL", s.Lookup)
	f.define(set, "text", "json", "yaml")
	set.Int(&f.decisions, "decisions", 10, 1, "how many of the last decisions to show")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		f.check(set)
		if len(args) == 0 || len(args) > 2 || len(args) == 2 && args[0] != "step" || len(args) == 1 && args[0] == "step" {
			set.Fault("%q, want NAMESPACE/GROUP, or step with a URL or UUID", strings.Join(args, " "))
		}
		if err := set.Err(); err != nil {
			return err
		}
		return s.UntilInterrupted(c.Context(), func(ctx context.Context) error {
			client, err := f.open()
			if err != nil {
				return err
			}
			if len(args) == 2 {
				err := f.step(ctx, client, args[1], c.OutOrStdout(), s.Paint(c.OutOrStdout()))
				return known(blamed(ctx, client, err))
			}
			return known(f.group(ctx, client, args[0], c.OutOrStdout(), s.Paint(c.OutOrStdout())))
		})
	}
	return c
}

// hiding are the kinds of problems that keep the scaler from seeing steps.
var hiding = []string{"ListFailing", "GroupFaulty", "RepositoryUnreadable", "QueueUnknown", "ScopeNotFound"}

// blamed adds to the error about a step that is not known what keeps the scaler from seeing steps.
func blamed(ctx context.Context, client *client, err error) error {
	var notFound *notFoundError
	var found api.Items[api.Problem]
	if !errors.As(err, &notFound) || client.get(ctx, "/problems", &found) != nil {
		return err
	}
	for _, p := range found.Items {
		if slices.Contains(hiding, p.Kind) {
			return &notFoundError{fmt.Sprintf("%s. This may be why: %s %s: %s", notFound.message, p.Group, p.Kind, p.Message)}
		}
	}
	return err
}

// known gives the error about something that is not known its exit code.
func known(err error) error {
	if notFound := (*notFoundError)(nil); errors.As(err, &notFound) {
		return exit.With(exit.Failed, notFound)
	}
	return err
}

func (f *explainFlags) group(ctx context.Context, client *client, given string, stdout io.Writer, paint Painter) error {
	key, err := f.groupKey(given)
	if err != nil {
		return err
	}
	var group api.Group
	var decisions api.Items[api.Decision]
	var steps api.Items[api.Step]
	for path, into := range map[string]any{"": &group, "/decisions": &decisions, "/steps": &steps} {
		if err := client.get(ctx, "/groups/"+key+path, into); err != nil {
			return err
		}
	}
	decisions.Items = decisions.Items[:min(len(decisions.Items), f.decisions)]
	switch all := struct {
		Group     api.Group      `json:"group"`
		Decisions []api.Decision `json:"decisions"`
		Steps     []api.Step     `json:"steps"`
	}{group, decisions.Items, steps.Items}; f.output {
	case "json":
		return writeJSON(stdout, all)
	case "yaml":
		return writeYAML(stdout, all)
	}
	if err := writeProblems(stdout, group.Problems, paint); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s has %s.\n", group.Key(), counted(group.Runners))
	if group.Scope != "" {
		fmt.Fprintf(&b, "They are for %s, with the labels %s. It scales by %s between %d and %d.\n", group.Scope, strings.Join(group.Labels, ", "), group.Strategy, group.Min, group.Max)
	}
	for _, window := range group.Schedules {
		state := "closed"
		if strings.Contains(group.Schedule, window) {
			state = "open"
		}
		fmt.Fprintf(&b, "Schedule, now %s: %s\n", state, window)
	}
	if group.Error != "" {
		fmt.Fprintf(&b, "No decision can be made: %s\n", group.Error)
	}
	if d := group.Decision; d != nil {
		fmt.Fprintf(&b, "\nNow: %s\n", sentence(*d))
	}
	if len(decisions.Items) > 0 {
		b.WriteString("\nThe last changes, the newest first:\n")
	}
	for _, d := range decisions.Items {
		fmt.Fprintf(&b, "  %s  %s\n", d.Time.Local().Format(time.DateTime), sentence(d))
	}
	if len(steps.Items) > 0 {
		b.WriteString("\nSteps:\n")
	}
	for _, s := range steps.Items {
		fmt.Fprintf(&b, "  %s\n", stepLine(s))
	}
	_, err = io.WriteString(stdout, b.String())
	return err
}

// place is a pipeline, or a step, as an address at Bitbucket names it.
type place struct {
	repository string
	build      int
	step       string
}

var results = regexp.MustCompile(`^/([^/]+)/([^/]+)/(?:addon/)?pipelines/(?:home#!/)?results/(\d+)(?:/steps/([^/]+))?/?`)

// placeOf reads what explain is asked for.
func placeOf(given string) (place, error) {
	if id, err := uuid.Parse(strings.Trim(given, "{}")); err == nil {
		return place{step: "{" + id.String() + "}"}, nil
	}
	u, err := url.Parse(given)
	path := ""
	if err == nil && u.Host != "" {
		path = u.Path
		if strings.HasPrefix(u.Fragment, "!/results/") { // the older form of Bitbucket's pages
			path = strings.TrimSuffix(path, "/home") + strings.TrimPrefix(u.Fragment, "!")
		}
	}
	found := results.FindStringSubmatch(path)
	if found == nil {
		return place{}, exit.Usage(fmt.Errorf("%q, want a step's UUID, or the address of a step or pipeline: https://bitbucket.org/WORKSPACE/REPOSITORY/pipelines/results/NUMBER", given))
	}
	build, err := strconv.Atoi(found[3])
	if err != nil {
		return place{}, exit.Usage(fmt.Errorf("%q: %s is no build number", given, found[3]))
	}
	p := place{repository: found[1] + "/" + found[2], build: build}
	if found[4] != "" {
		id, err := uuid.Parse(strings.Trim(found[4], "{}"))
		if err != nil {
			return place{}, exit.Usage(fmt.Errorf("%q: %s is no UUID of a step", given, found[4]))
		}
		p.step = "{" + id.String() + "}"
	}
	return p, nil
}

func (f *explainFlags) step(ctx context.Context, client *client, given string, stdout io.Writer, paint Painter) error {
	p, err := placeOf(given)
	if err != nil {
		return err
	}
	var steps []api.Step
	if p.step != "" {
		var step api.Step
		if err := client.get(ctx, "/steps/"+url.PathEscape(p.step), &step); err != nil {
			return err
		}
		steps = []api.Step{step}
	} else {
		var found api.Items[api.Step]
		if err := client.get(ctx, fmt.Sprintf("/steps?repository=%s&build=%d", url.QueryEscape(p.repository), p.build), &found); err != nil {
			return err
		}
		if steps = found.Items; len(steps) == 0 {
			return &notFoundError{fmt.Sprintf("build %d of %s is not known: it has ended, or no group with the strategy queuedSteps looks at this repository", p.build, p.repository)}
		}
		steps = slices.DeleteFunc(steps, func(s api.Step) bool { return s.State == api.StepEnded && len(s.Why) == 0 })
	}
	switch f.output {
	case "json":
		return writeJSON(stdout, steps)
	case "yaml":
		return writeYAML(stdout, steps)
	}
	for i, s := range steps {
		if i > 0 {
			if _, err := fmt.Fprintln(stdout); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(stdout, told(s, paint)); err != nil {
			return err
		}
	}
	return nil
}

// told tells what a step waits for.
func told(s api.Step, paint Painter) string {
	var b strings.Builder
	name := "Step " + s.UUID
	if s.Name != "" {
		name = fmt.Sprintf("%q of %s build %d", s.Name, s.Repository, s.Build)
	}
	fmt.Fprintf(&b, "%s ", name)
	switch s.State {
	case api.StepRunning:
		fmt.Fprintf(&b, "runs%s", since(s.Since))
		if s.Runner != "" {
			fmt.Fprintf(&b, " on %s of %s", s.Runner, s.Group)
		}
	case api.StepWaiting:
		b.WriteString(paint.Warn("waits for a runner"))
		if s.Group != "" {
			fmt.Fprintf(&b, " of %s", s.Group)
		}
		if s.Since != nil {
			fmt.Fprintf(&b, ", for %s now", short(time.Since(*s.Since)))
		}
	case api.StepUnserved:
		b.WriteString(paint.Bad("asks for a runner that no group has"))
	case api.StepHeld:
		b.WriteString("has not started")
	case api.StepExpected:
		fmt.Fprintf(&b, "will wait for a runner of %s at %s, if the steps before it take as long as usual", s.Group, s.Expected.Local().Format(time.TimeOnly))
	case api.StepEnded:
		b.WriteString("has ended")
	case api.StepUnknown:
		b.WriteString("is not known")
	}
	b.WriteString(".\n")
	for _, reason := range s.Why {
		fmt.Fprintf(&b, "  %s: %s.\n", reason.Kind, strings.TrimSuffix(reason.Message, "."))
		if reason.Remedy != "" {
			fmt.Fprintf(&b, "    %s\n", reason.Remedy)
		}
	}
	if len(s.Labels) > 0 {
		fmt.Fprintf(&b, "  Its labels are %s.\n", strings.Join(s.Labels, ", "))
	}
	if s.URL != "" {
		fmt.Fprintf(&b, "  %s\n", s.URL)
	}
	return b.String()
}
