package probe

import (
	"fmt"
	"strings"
)

// Basis is how a fact is known before it is checked.
type Basis string

// The bases.
const (
	// Documented means by Atlassian's specification, documentation or code.
	Documented Basis = "documented"
	// Published means by third parties' code or fixtures.
	Published Basis = "others' code"
	// Inferred means from documentation.
	Inferred Basis = "inferred"
	// Unknown means by nothing. The scaler assumes the worse case.
	Unknown Basis = "unknown"
)

// Look is the check that shows whether a fact holds.
type Look string

// The checks.
const (
	// LookLive is Live.
	LookLive Look = "check live"
	// LookRefusals is Live with Config.Refusals.
	LookRefusals Look = "check live --refusals"
	// LookCredentials is Access.
	LookCredentials Look = "check credentials" //nolint:gosec // a command's name
	// LookImage runs the runner's image.
	LookImage Look = "check image"
	// LookNone means that there is no harmless check.
	LookNone Look = ""
)

// Fact is an assumption of the scaler that was never observed at the real service.
type Fact struct {
	// Key names the fact for machines.
	Key   string `json:"key"`
	Claim string `json:"claim"`
	Basis Basis  `json:"basis"`
	Look  Look   `json:"look"`
	// Scaler is how the scaler handles it.
	Scaler string `json:"scaler"`
	// Hidden is why no check shows it.
	Hidden string `json:"-"`
}

// The keys of the facts of LookImage, which another package checks.
const (
	KeyRunnerEntrypoint = "runner-entrypoint"
	KeyRunnerLines      = "runner-lines"
	KeyRunnerSigterm    = "runner-sigterm"
)

// The keys of the facts that this package checks.
const (
	keyRegister      = "register"
	keySecretOnce    = "secret-once"
	keyAccessToken   = "access-token"
	keyLabels        = "labels"
	keyDates         = "dates"
	keyCreateLag     = "create-lag"
	keyStep          = "step"
	keyInternalStep  = "internal-step"
	keyDisable       = "disable"
	keyDisabledShows = "disabled-shows"
	keyEnable        = "enable"
	keyPublicState   = "public-state"
	keyPublicPut     = "public-put"
	keyPutLabels     = "put-labels"
	keyLimit         = "limit"
	keySameName      = "same-name"
	keyOwnUUID       = "own-uuid"
	keyLongName      = "long-name"
	keyManyLabels    = "many-labels"
	keyDelete        = "delete"
	keyDeleteLag     = "delete-lag"
	keyRateHeaders   = "rate-headers"
	keyScopeNames    = "scope-names"
)

// Facts returns all facts, in the order in which they are checked.
func Facts() []Fact {
	return []Fact{
		{keyRegister, "a registration is answered 200 or 201 with the runner, UNREGISTERED, and its OAuth client's secret", Documented, LookLive,
			"an answer without id and secret counts as a registration of unknown outcome", ""},
		{keySecretOnce, "no later answer has the secret", Documented, LookLive, "keeps the secret in memory alone, from the registration to the runner's process", ""},
		{keyAccessToken, "access tokens may register runners", Published, LookLive, "reports the refusal with the scopes; use another kind of credentials", ""},
		{keyLabels, "labels of letters, digits and dots are stored unchanged", Documented, LookLive, "knows its own runners by a label `keda.<cluster>.<8 hex digits>` and touches no others", ""},
		{keyDates, "`created_on` agrees with the Date header of the answer", Inferred, LookLive, "computes ages from these two, never from its own clock", ""},
		{keyCreateLag, "a list shows a registration within 30 s", Inferred, LookLive, "repeats a registration of unknown outcome only after `--write-settle` (30 s); raise it if Bitbucket takes longer", ""},
		{keyStep, "lists of API 2.0 show the step of a busy runner (`state.step`)", Unknown, LookLive, "if no list has ever shown a step, uses the log lines of the runner, and never ends a runner whose sidecar does not report", ""},
		{keyInternalStep, "the internal list exists too, and shows the step", Documented, LookLive, "uses it if the list of API 2.0 lacks a step that a runner is known to have, as long as it shows steps", ""},
		{keyDisable, "`PUT /internal/…/state` disables a runner, with these credentials", Inferred, LookLive,
			"after 404 or 405 retires no runner unless `--unsafe-scale-down` is set, and reports it in the log and an Event", ""},
		{keyDisabledShows, "a disabled runner has the status DISABLED", Inferred, LookLive, "ends no runner before a read shows that status", ""},
		{keyEnable, "`ENABLED` on the same route undoes it", Inferred, LookLive, "never enables a runner", ""},
		{keyPublicState, "API 2.0 has no route `…/state`", Unknown, LookLive, "does not use it", ""},
		{keyPublicPut, "a PUT of the runner itself does not disable it", Unknown, LookLive, "does not use it", ""},
		{keyPutLabels, "a PUT of the runner itself does not change its labels", Unknown, LookLive, "does not use it: a changed group gets new runners", ""},
		{keyLimit, "beyond 100 runners a registration is answered 400, and the text names the limit", Unknown, LookLive,
			"recognizes the limit by words in the text; otherwise the sidecar tries again as after any refusal", "the scope is not full"},
		{keySameName, "two runners may have the same name", Unknown, LookRefusals, "derives the name of a runner from its pod, and removes a second runner of that name that never connected", ""},
		{keyOwnUUID, "a registration with the UUID of another runner is answered 409", Inferred, LookRefusals, "never sends a UUID", ""},
		{keyLongName, "names of more than 50 characters are refused", Inferred, LookRefusals, "uses at most 50", ""},
		{keyManyLabels, "more than 10 custom labels are refused", Documented, LookRefusals, "uses at most 10, including its own label", ""},
		{keyDelete, "a deletion is answered 204, and then GET 404", Documented, LookLive, "treats 404 on a deletion as success", ""},
		{keyDeleteLag, "a list no longer shows a deleted runner after 30 s", Inferred, LookLive, "trusts a GET more than a list", ""},
		{keyRateHeaders, "X-RateLimit headers come with access tokens only, and contain the limit but not what remains", Documented, LookCredentials, "counts its own calls per hour", ""},
		{keyScopeNames, "answers name the scopes of the credentials (X-OAuth-Scopes, `scopes` of an OAuth token)", Published, LookCredentials, "does not rely on them; a 403 lists what is missing", ""},
		{KeyRunnerEntrypoint, "the image starts with `/opt/atlassian/pipelines/runner/entrypoint.sh`", Published, LookImage, "rendered Jobs start it; set `entrypoint` for another one", ""},
		{KeyRunnerLines, "the log lines of the runner show when it is online, gets a step, and completes it", Published, LookImage, "reports lines that it does not understand, and never takes them for idleness", ""},
		{KeyRunnerSigterm, "SIGTERM ends the runner within seconds and kills a step in progress", Unknown, LookImage, "signals no runner that has a step", ""},
		{"offline-after", "a runner whose heartbeat is lost becomes OFFLINE after 1 to 2 minutes", Inferred, LookNone, "treats a runner as lost only after 5 minutes OFFLINE", "needs a connected runner"},
		{"delete-busy", "deleting a busy runner is not refused, and its step hangs", Inferred, LookNone, "never deletes a busy runner; unknown counts as busy", "would cost a step"},
		{"retry-after", "a 429 may lack Retry-After", Unknown, LookNone, "honours it if present, else backs off", "would use up the hourly allowance"},
		{"waiting-steps", "a pending step of the stage PENDING has been reached and lacks only a runner", Inferred, LookNone, "goes by the order of the file; the stage alone decides nothing", "needs a pipeline"},
		{"opened-gates", "a manual step that was reached and no longer has the stage PAUSED was started", Inferred, LookNone, "counts it after one read that shows the change, or after two if it never saw the stage", "needs a pipeline"},
		{"pipeline-file", "a pipeline runs what `bitbucket-pipelines.yml` says at its commit, and its steps are listed in the order of the file", Inferred, LookNone, "compares number and names of the steps; where they differ, their labels are unknown and the ratio is the floor", "needs a pipeline"},
		{"status-webhook", "Pipelines posts an INPROGRESS commit status when a pipeline starts", Inferred, LookNone, "also takes pushes and the ends of steps as hints, and never relies on them alone", "needs a pipeline"},
	}
}

// Markdown returns the facts as a table, without those that Atlassian documents.
// docs/facts.md contains the table.
func Markdown() string {
	var text strings.Builder
	text.WriteString("| assumption | known from | checked by | what the scaler does |\n|---|---|---|---|\n")
	for _, fact := range Facts() {
		if fact.Basis == Documented {
			continue
		}
		look := "no harmless check: it " + fact.Hidden
		if fact.Look != LookNone {
			look = "`" + string(fact.Look) + "`"
		}
		_, _ = fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", fact.Claim, fact.Basis, look, fact.Scaler)
	}
	return text.String()
}
