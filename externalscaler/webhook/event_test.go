package webhook

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket"
)

const (
	workspaceUUID  = "{11111111-1111-4111-8111-111111111111}"
	repositoryUUID = "{22222222-2222-4222-8222-22222222222a}"
	pipelineUUID   = "{33333333-3333-4333-8333-333333333333}"
	repository     = `"repository":{"type":"repository","full_name":"acme/app","uuid":"` + repositoryUUID + `","workspace":{"slug":"acme","uuid":"` + workspaceUUID + `"}}`
)

var app = place{workspace: name{"acme", workspaceUUID}, repository: name{"app", repositoryUUID}}

func statusOf(url string) string {
	return `{` + repository + `,"actor":{},"commit_status":{"name":"Pipeline #7","key":"k","state":"INPROGRESS","type":"build","url":"` + url + `","links":{"commit":{"href":"x"}}}}`
}

func attribute(key, value string) string {
	return `{"key":"` + key + `","value":{"stringValue":"` + value + `"}}`
}

func spanOf(called, pipeline string, more ...string) string {
	attributes := append([]string{
		attribute("pipeline.account.uuid", workspaceUUID), attribute("pipeline.repository.uuid", repositoryUUID), attribute("pipeline.uuid", pipeline),
	}, more...)
	return `{"traceId":"a","spanId":"b","name":"` + called + `","kind":1,"startTimeUnixNano":"1","attributes":[` + strings.Join(attributes, ",") + `]}`
}

func spansOf(spans ...string) string {
	return `{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"x"},"spans":[` + strings.Join(spans, ",") + `]}]}]}`
}

func built(number int) []place {
	at := app
	at.build = number
	return []place{at}
}

func ran(pipelines ...string) (places []place) {
	for _, pipeline := range pipelines {
		places = append(places, place{workspace: name{uuid: workspaceUUID}, repository: name{uuid: repositoryUUID}, pipeline: pipeline})
	}
	return places
}

func over(places []place) []place {
	for i := range places {
		places[i].over = true
	}
	return places
}

func TestWhatADeliverySays(t *testing.T) {
	t.Parallel()
	other := "{44444444-4444-4444-8444-444444444444}"
	for of, c := range map[string]struct {
		event, body string
		want        []place
	}{
		"status, results":                    {statusCreated, statusOf("https://bitbucket.org/acme/app/pipelines/results/812"), built(812)},
		"status of success":                  {statusUpdated, strings.Replace(statusOf("https://bitbucket.org/acme/app/pipelines/results/812"), "INPROGRESS", "SUCCESSFUL", 1), over(built(812))},
		"status of a stop":                   {statusUpdated, strings.Replace(statusOf("https://bitbucket.org/acme/app/pipelines/results/812"), "INPROGRESS", "STOPPED", 1), over(built(812))},
		"status, home":                       {statusUpdated, statusOf("https://bitbucket.org/acme/app/addon/pipelines/home#!/results/7"), built(7)},
		"status, slash at the end":           {statusUpdated, statusOf("https://bitbucket.org/acme/app/pipelines/results/7/"), built(7)},
		"status, escaped":                    {statusCreated, statusOf(`https:\/\/bitbucket.org\/acme\/app\/addon\/pipelines\/home\u0023!\/results\/7`), built(7)},
		"status, white space":                {statusCreated, "\n{\t" + strings.ReplaceAll(statusOf("https://bitbucket.org/acme/app/pipelines/results/7")[1:], ":{", " :\r\n{ ") + "\n", built(7)},
		"status of another system":           {statusCreated, statusOf("https://ci.example.com/job/7"), nil},
		"status of a system with results":    {statusCreated, statusOf("https://ci.example.com/results/7"), nil},
		"status without a number":            {statusCreated, statusOf("https://bitbucket.org/acme/app/pipelines/results/"), nil},
		"status of a step":                   {statusCreated, statusOf("https://bitbucket.org/acme/app/pipelines/results/7x"), nil},
		"status with a huge number":          {statusCreated, statusOf("https://bitbucket.org/acme/app/pipelines/results/99999999999999999999"), nil},
		"status with the number zero":        {statusCreated, statusOf("https://bitbucket.org/acme/app/pipelines/results/0"), nil},
		"status with a relative address":     {statusCreated, statusOf("/pipelines/results/7"), nil},
		"status whose address is no text":    {statusCreated, strings.Replace(statusOf("x"), `"url":"x"`, `"url":7`, 1), nil},
		"status whose name is no text":       {statusCreated, strings.Replace(statusOf("https://b.org/pipelines/results/7"), `"Pipeline #7"`, `[7]`, 1), built(7)},
		"status without a repository":        {statusCreated, `{"commit_status":{"url":"https://bitbucket.org/acme/app/pipelines/results/7"}}`, nil},
		"push":                               {push, `{` + repository + `,"push":{"changes":[{"old":null,"new":{"type":"branch","name":"main"}}]}}`, []place{app}},
		"push without changes":               {push, `{` + repository + `}`, []place{app}},
		"push that deletes a branch":         {push, `{` + repository + `,"push":{"changes":[{"old":{},"new":null},{"new":null}]}}`, nil},
		"push that deletes and creates":      {push, `{` + repository + `,"push":{"changes":[{"new":null},{"new":{}}]}}`, []place{app}},
		"push with changes of another type":  {push, `{` + repository + `,"push":{"changes":7}}`, []place{app}},
		"pull request created":               {"pullrequest:created", `{` + repository + `,"pullrequest":{"id":1}}`, []place{app}},
		"pull request updated":               {"pullrequest:updated", `{` + repository + `}`, []place{app}},
		"pull request with a push":           {"pullrequest:push", `{` + repository + `}`, []place{app}},
		"pull request merged":                {"pullrequest:fulfilled", `{` + repository + `}`, []place{app}},
		"event that is not known":            {"repo:fork", `{` + repository + `}`, nil},
		"no event":                           {"", `{` + repository + `}`, nil},
		"repository by name only":            {push, `{"repository":{"full_name":"acme/app"}}`, []place{{workspace: name{slug: "acme"}, repository: name{slug: "app"}}}},
		"repository by UUID only":            {push, `{"repository":{"uuid":"` + repositoryUUID + `","workspace":{"uuid":"` + workspaceUUID + `"}}}`, []place{{workspace: name{uuid: workspaceUUID}, repository: name{uuid: repositoryUUID}}}},
		"repository with a UUID as a number": {push, strings.Replace(`{`+repository+`}`, `"`+repositoryUUID+`"`, "7", 1), []place{{workspace: app.workspace, repository: name{slug: "app"}}}},
		"repository with a workspace's text": {push, strings.Replace(`{`+repository+`}`, `{"slug":"acme","uuid":"`+workspaceUUID+`"}`, `"acme"`, 1), []place{{workspace: name{slug: "acme"}, repository: app.repository}}},
		"repository in capital letters":      {push, strings.Replace(`{`+repository+`}`, repositoryUUID, strings.ToUpper(repositoryUUID), 1), []place{app}},
		"repository with a path as its name": {push, `{"repository":{"full_name":"acme/../../x"}}`, nil},
		"repository without a name":          {push, `{"repository":{}}`, nil},
		"nothing":                            {push, `null`, nil},
		"a list":                             {push, `[{}]`, nil},
		"span of a run":                      {spanCreated, spansOf(spanOf("bbc.pipeline_run", pipelineUUID, `{"key":"pipeline_run.run_number","value":{"stringValue":"1"}}`)), over(ran(pipelineUUID))},
		"span with a number as an integer":   {spanCreated, spansOf(spanOf("bbc.pipeline_run", pipelineUUID, `{"key":"pipeline_run.run_number","value":{"intValue":1}}`)), over(ran(pipelineUUID))},
		"span of a step":                     {spanCreated, spansOf(spanOf("bbc.pipeline_step", pipelineUUID)), ran(pipelineUUID)},
		"span of a step by its other name":   {spanCreated, spansOf(spanOf("bbc.step", pipelineUUID)), ran(pipelineUUID)},
		"span of a name not seen before":     {spanCreated, spansOf(spanOf("bbc.new", pipelineUUID)), ran(pipelineUUID)},
		"span of a command":                  {spanCreated, spansOf(spanOf("bbc.command", pipelineUUID), spanOf("bbc.pipeline_container", pipelineUUID)), nil},
		"spans of one pipeline":              {spanCreated, spansOf(spanOf("bbc.pipeline_step", pipelineUUID), spanOf("bbc.command", other), spanOf("bbc.pipeline_run", pipelineUUID)), over(ran(pipelineUUID))},
		"spans of two pipelines":             {spanCreated, spansOf(spanOf("bbc.step", other), spanOf("bbc.step", pipelineUUID), spanOf("bbc.step", other)), ran(other, pipelineUUID)},
		"span without braces":                {spanCreated, strings.NewReplacer("{3", "3", "3}", "3").Replace(spansOf(spanOf("bbc.step", pipelineUUID))), ran(pipelineUUID)},
		"span with a wrong UUID":             {spanCreated, spansOf(spanOf("bbc.step", "x/../y"), spanOf("bbc.step", pipelineUUID)), ran(pipelineUUID)},
		"span with a value of another type":  {spanCreated, spansOf(strings.Replace(spanOf("bbc.step", pipelineUUID), `{"stringValue":"`+workspaceUUID+`"}`, `7`, 1)), nil},
		"span with an envelope":              {spanCreated, `{` + repository + `,` + spansOf(spanOf("bbc.step", pipelineUUID))[1:], ran(pipelineUUID)},
		"no spans":                           {spanCreated, `{"resourceSpans":[]}`, nil},
		"spans of another type":              {spanCreated, `{"resourceSpans":{"a":1}}`, nil},
	} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			got, err := read(c.event, []byte(c.body))
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(place{}, name{})); diff != "" || err != nil {
				t.Errorf("got %v, %v: %s", got, err, diff)
			}
		})
	}
}

func TestOneDeliveryHasABoundedNumberOfPlaces(t *testing.T) {
	t.Parallel()
	var spans []string
	for i := range 10 * maxPlaces {
		spans = append(spans, spanOf("bbc.step", fmt.Sprintf("{33333333-3333-4333-8333-%012d}", i)))
	}
	if got, err := read(spanCreated, []byte(spansOf(spans...))); err != nil || len(got) != maxPlaces {
		t.Errorf("got %d places, %v, want %d", len(got), err, maxPlaces)
	}
}

func TestWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, `{`, `{"repository":`, `x`, `{}{}`, "\x00", strings.Repeat("[", 20_000)} {
		if got, err := read(push, []byte(body)); err == nil {
			t.Errorf("%.20q: got %v, want an error", body, got)
		}
	}
}

// FuzzRead checks that nothing but names reaches the queue, whatever a delivery says.
func FuzzRead(f *testing.F) {
	for _, event := range append(Events(), "repo:fork") {
		for _, body := range []string{
			statusOf("https://bitbucket.org/acme/app/pipelines/results/812"), statusOf(`https:\/\/b\/addon\/pipelines\/home#!\/results\/7`),
			`{` + repository + `,"push":{"changes":[{"new":null}]}}`, spansOf(spanOf("bbc.step", pipelineUUID), spanOf("bbc.command", "x")),
			`{"repository":{"full_name":"../x","uuid":7}}`, `null`, `{`,
		} {
			f.Add(event, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, event string, body []byte) {
		places, err := read(event, body)
		if err != nil && places != nil || len(places) > maxPlaces || len(places) > 0 && !slices.Contains(events, event) {
			t.Fatalf("got %v, %v", places, err)
		}
		for _, at := range places {
			scope := bitbucket.Scope{Workspace: at.workspace.best(), Repository: at.repository.best()}
			if err := scope.Validate(); err != nil || scope.Repository == "" {
				t.Errorf("scope %v: %v", scope, err)
			}
			if at.build < 0 || at.build > 999_999_999 || at.pipeline != "" && !bitbucket.IsUUID(at.pipeline) {
				t.Errorf("got %+v", at)
			}
		}
	})
}
