package runnergroup

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
)

// The keys of a trigger's metadata.
const (
	keyWorkspace           = "workspace"
	keyRepository          = "repository"
	keyLabels              = "labels"
	keyOS                  = "os"
	keyStrategy            = "strategy"
	keyMin                 = "min"
	keyMax                 = "max"
	keyScaleUpThreshold    = "scaleUpThreshold"
	keyScaleDownThreshold  = "scaleDownThreshold"
	keyScaleUpMultiplier   = "scaleUpMultiplier"
	keyScaleDownMultiplier = "scaleDownMultiplier"
	keySpare               = "spare"
	keyCount               = "count"
	keyCoolDown            = "coolDown"
	keyEphemeral           = "ephemeral"
	keyMaxAge              = "maxAge"
	keyRepositories        = "repositories"
	keyLookAhead           = "lookAhead"
	keySchedules           = "schedules"
	keyCredentials         = "credentials"
)

const (
	defaultCoolDown = 300 * time.Second
	defaultMaxAge   = 24 * time.Hour
)

// defaults holds the default of each key.
var defaults = map[string]string{
	keyWorkspace: "", keyRepository: "", keyLabels: "", keyOS: "linux", keyStrategy: string(policy.PercentageRunnersIdle),
	keyMin: "1", keyMax: "10", keyScaleUpThreshold: "0.5", keyScaleDownThreshold: "0.2",
	keyScaleUpMultiplier: "1.5", keyScaleDownMultiplier: "0.5", keySpare: "0", keyCount: "",
	keyCoolDown: "300s", keyEphemeral: "false", keyMaxAge: "24h", keyRepositories: "", keyLookAhead: "0s", keySchedules: "", keyCredentials: "default",
}

// ignored lists the keys that only KEDA reads (pkg/scalers/external_scaler.go).
var ignored = []string{"scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey", "tlsCertFile", "metricName"}

// selfHosted is the label of every runner, and systemLabels are those of the operating
// systems. The scaler adds both.
const selfHosted = "self.hosted"

var systemLabels = []string{"linux", "linux.arm64", "linux.shell", "macos", "windows"}

// Bounds.
const (
	maxMetadata  = 64 << 10 // bytes, keys and values together
	maxLabels    = 9        // Bitbucket's limit of 10, minus the owner label
	maxLabel     = 50
	maxShown     = 64 // bytes of a value in an error text
	maxDuration  = 30 * 24 * time.Hour
	reservedRoot = "keda."
)

var (
	label       = regexp.MustCompile(`^[a-z0-9.]+$`)
	slug        = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	uuid        = regexp.MustCompile(`^\{[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\}$`)
	setName     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	decimal     = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	whole       = regexp.MustCompile(`^[0-9]{1,9}$`)
	identifier  = regexp.MustCompile(`^[A-Za-z0-9_.\[\]-]{1,64}$`)
	snakeLetter = regexp.MustCompile(`_([a-z])`)
)

// Parse parses a group from a trigger's metadata. The error is an *InvalidError with
// all faults.
func Parse(metadata map[string]string) (Group, error) {
	size := 0
	for key, value := range metadata {
		size += len(key) + len(value)
	}
	if size > maxMetadata {
		return Group{}, &InvalidError{Faults: []Fault{{Key: "metadata", Given: fmt.Sprintf("%d bytes", size), Accepted: fmt.Sprintf("at most %d", maxMetadata)}}}
	}
	p := &parser{values: map[string]string{}, written: map[string]string{}}
	p.collect(metadata)
	g := p.group()
	if len(p.faults) > 0 {
		slices.SortFunc(p.faults, func(a, b Fault) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Accepted, b.Accepted)) })
		return Group{}, &InvalidError{Faults: p.faults}
	}
	return g, nil
}

// parser parses values and collects faults.
type parser struct {
	values  map[string]string // by key, trimmed
	written map[string]string // the spelling that was given, by key
	faults  []Fault
}

func (p *parser) fault(key, given, accepted string) {
	if written, ok := p.written[key]; ok {
		key = written
	}
	if given != "" {
		given = strconv.Quote(shorten(given))
	}
	if !identifier.MatchString(key) {
		key = strconv.Quote(shorten(key)) // it can be empty or contain line breaks
	}
	p.faults = append(p.faults, Fault{Key: shorten(key), Given: given, Accepted: accepted})
}

func shorten(s string) string {
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// collect maps both spellings of a key to one and refuses unknown keys.
func (p *parser) collect(metadata map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(metadata)) { // sorted, so that the faults are always the same
		value := metadata[key]
		if slices.Contains(ignored, key) {
			continue
		}
		name := snakeLetter.ReplaceAllStringFunc(key, func(s string) string { return strings.ToUpper(s[1:]) })
		if _, known := defaults[name]; !known {
			p.fault(key, "", "unknown key"+suggestion(name))
			continue
		}
		if other, twice := p.written[name]; twice {
			p.fault(name, "", fmt.Sprintf("given as %q and as %q, want one", min(key, other), max(key, other)))
			continue
		}
		p.values[name], p.written[name] = strings.TrimSpace(value), key
	}
}

// suggestion names the known key that is closest to an unknown one, if any is close.
func suggestion(name string) string {
	if nearest := spelling.Nearest(name, slices.Sorted(maps.Keys(defaults))); nearest != "" {
		return ", did you mean " + nearest + "?"
	}
	return ""
}

func (p *parser) given(key string) bool { return p.values[key] != "" }

func (p *parser) text(key string) string { return cmp.Or(p.values[key], defaults[key]) }

func (p *parser) group() Group {
	g := Group{Workspace: p.place(keyWorkspace), Repository: p.place(keyRepository), Labels: p.labels(), OS: p.text(keyOS), Credentials: p.text(keyCredentials)}
	if g.Workspace == "" && !p.blamed(keyWorkspace) {
		p.fault(keyWorkspace, "", "missing or empty, want the workspace's slug or {uuid}")
	}
	if !slices.Contains([]string{"linux", "linux.arm64", "linux.shell"}, g.OS) {
		p.fault(keyOS, g.OS, "linux, linux.arm64 or linux.shell")
	}
	if !setName.MatchString(g.Credentials) {
		p.fault(keyCredentials, g.Credentials, "a name of lower-case letters, digits and dashes, at most 63")
	}
	for repository := range strings.SplitSeq(p.values[keyRepositories], ",") {
		switch repository = strings.TrimSpace(repository); {
		case repository == "":
		case isPlace(repository):
			g.Repositories = append(g.Repositories, repository)
		default:
			p.fault(keyRepositories, repository, "slugs or {uuid}s, comma separated")
		}
	}
	slices.Sort(g.Repositories)
	g.Repositories = slices.Compact(g.Repositories)
	g.MaxAge = p.duration(keyMaxAge)
	g.Rules = p.rules()
	g.Windows = p.schedules(g.Rules)
	if len(g.Repositories) > 0 && !p.blamed(keyStrategy) && (g.Rules.Strategy != policy.QueuedSteps || g.Repository != "") {
		p.fault(keyRepositories, p.values[keyRepositories], "only with strategy queuedSteps in a workspace")
	}
	g.LookAhead = p.duration(keyLookAhead)
	if p.given(keyLookAhead) && g.LookAhead > 0 && !p.blamed(keyStrategy) && g.Rules.Strategy != policy.QueuedSteps {
		p.fault(keyLookAhead, p.values[keyLookAhead], "only with strategy queuedSteps")
	}
	return g
}

func (p *parser) blamed(key string) bool {
	return slices.ContainsFunc(p.faults, func(f Fault) bool { return f.Key == cmp.Or(p.written[key], key) })
}

func (p *parser) rules() policy.Rules {
	r := policy.Rules{Strategy: policy.Strategy(p.text(keyStrategy)), CoolDown: p.duration(keyCoolDown), Ephemeral: p.boolean(keyEphemeral)}
	switch r.Strategy {
	case policy.Fixed:
		p.fixed(&r)
		return r
	case policy.PercentageRunnersIdle, policy.QueuedSteps:
	default:
		p.fault(keyStrategy, string(r.Strategy), "percentageRunnersIdle, queuedSteps or fixed")
	}
	if p.given(keyCount) && !p.blamed(keyStrategy) {
		p.fault(keyCount, p.values[keyCount], "only with strategy fixed")
	}
	r.Min, r.Max, r.Spare = p.count(keyMin), p.count(keyMax), p.count(keySpare)
	if r.Ephemeral && !p.given(keySpare) {
		r.Spare = 1
	}
	if r.Min == 0 && !r.Strategy.StartsFromZero() && !p.blamed(keyMin) && !p.blamed(keyStrategy) {
		p.fault(keyMin, "0", "at least 1, or strategy queuedSteps: without a runner nothing else would ever ask for one, and a step that finds no runner online fails at once")
	}
	switch {
	case r.Max == 0 && !p.blamed(keyMax):
		p.fault(keyMax, "0", "at least 1")
	case r.Min > r.Max && !p.blamed(keyMax) && !p.blamed(keyMin):
		p.fault(keyMin, strconv.Itoa(r.Min), fmt.Sprintf("at most max, which is %d", r.Max))
	}
	r.ScaleUpThreshold = p.fraction(keyScaleUpThreshold, func(f float64) bool { return f > 0 && f <= 1 }, "a decimal above 0, at most 1")
	r.ScaleDownThreshold = p.fraction(keyScaleDownThreshold, func(f float64) bool { return f > 0 && f < 1 }, "a decimal above 0, below 1")
	r.ScaleUpMultiplier = p.fraction(keyScaleUpMultiplier, func(f float64) bool { return f > 1 && f <= 100 }, "a decimal above 1, at most 100")
	r.ScaleDownMultiplier = p.fraction(keyScaleDownMultiplier, func(f float64) bool { return f > 0 && f < 1 }, "a decimal above 0, below 1")
	if r.ScaleDownThreshold >= r.ScaleUpThreshold && !p.blamed(keyScaleUpThreshold) && !p.blamed(keyScaleDownThreshold) {
		p.fault(keyScaleDownThreshold, p.text(keyScaleDownThreshold), "less than scaleUpThreshold, which is "+p.text(keyScaleUpThreshold))
	}
	return r
}

// fixed parses the manual mode, in which count is the only number.
func (p *parser) fixed(r *policy.Rules) {
	for _, key := range []string{keyMin, keyMax, keySpare, keyScaleUpThreshold, keyScaleDownThreshold, keyScaleUpMultiplier, keyScaleDownMultiplier} {
		if p.given(key) {
			p.fault(key, p.values[key], "nothing: strategy fixed takes only count")
		}
	}
	if !p.given(keyCount) {
		p.fault(keyCount, "", "missing, want 0 to 100 with strategy fixed")
		return
	}
	r.Count = p.count(keyCount)
}
