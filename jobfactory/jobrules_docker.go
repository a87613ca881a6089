package jobfactory

import (
	"slices"
	"strings"
)

// dockerRules are the rules about the Docker daemon, in which the steps run.
func dockerRules() []JobRule {
	return []JobRule{
		{Rule{"docker-on-network", Error, "a Docker daemon that listens on the network, where any pod may control the privileged daemon", "start it with the args `dockerd` and `--host=unix:///var/run/docker.sock`, and no other host"}, true,
			func(j RunnerJob, report report) {
				for _, c := range j.containers() {
					if IsDaemon(*c.Container) {
						dockerOnNetwork(c, report)
					}
				}
			}},
		{Rule{"docker-memory", Warning, "a Docker daemon, in which the steps run, without a memory request or limit: steps may use up the node's memory", "set `docker_resources` of the group, or the resources of the daemon's container"}, false,
			func(j RunnerJob, report report) {
				for _, c := range j.containers() {
					if IsDaemon(*c.Container) && c.Resources.Requests.Memory().IsZero() && c.Resources.Limits.Memory().IsZero() {
						report("", "the Docker daemon, in which the steps run, has no memory request or limit", c.at("resources")...)
					}
				}
			}},
		{Rule{"privileged-shell", Error, "a privileged container in a group with os linux.shell, whose steps run in the runner's container and need no Docker daemon", "remove the container, or with `docker: false` let render write none"}, true,
			func(j RunnerJob, report report) {
				for _, c := range j.containers() {
					if j.OS == LinuxShell && isPrivileged(*c.Container) {
						report("true", "none with os "+LinuxShell+": its steps need no Docker daemon", c.at("securityContext", "privileged")...)
					}
				}
			}},
	}
}

// dockerOnNetwork reports where the daemon's command line makes it listen.
func dockerOnNetwork(c place, report report) {
	// A shell may start the daemon, with everything in one argument.
	if host := networkHost(strings.Fields(strings.Join(slices.Concat(c.Command, c.Args), " "))); host != "" {
		report(host, "--host=unix:///var/run/docker.sock: any pod may control a privileged daemon on the network", c.at(argumentsKey(c))...)
		return
	}
	// With options or nothing the image's entrypoint adds a TCP host of its own.
	if len(c.Command) == 0 && strings.Contains(c.Image, "dind") && (len(c.Args) == 0 || strings.HasPrefix(c.Args[0], "-")) {
		report("", "want the args dockerd and --host=unix:///var/run/docker.sock: without the word dockerd the image's entrypoint listens on TCP too", c.at("args")...)
	}
}

func argumentsKey(c place) string {
	if len(c.Args) == 0 {
		return "command"
	}
	return "args"
}

// networkHost returns the option of a daemon's command line that makes it listen on the
// network, "" if there is none.
func networkHost(arguments []string) string {
	for i, argument := range arguments {
		host, isHost := daemonHost(arguments, i)
		_, address, _ := strings.Cut(host, "://")
		loopback := strings.HasPrefix(address, "127.") || strings.HasPrefix(address, "localhost:") || strings.HasPrefix(address, "[::1]:")
		if isHost && strings.HasPrefix(host, "tcp:") && !loopback {
			return argument
		}
	}
	return ""
}

// DaemonOptions returns the options of dockerd in a command line that a group may set.
// refused is called with the others, except for the socket that the daemon listens on
// anyway.
func DaemonOptions(arguments []string, refused func(argument string)) []string {
	var kept []string
	for i := 0; i < len(arguments); i++ {
		host, isHost := daemonHost(arguments, i)
		switch {
		case isHost && (arguments[i] == "-H" || arguments[i] == "--host"):
			i++ // its value
			fallthrough
		case isHost:
			if host != "unix:///var/run/docker.sock" {
				refused(host)
			}
		case strings.HasPrefix(arguments[i], "--tls"):
			if arguments[i] != "--tls=false" {
				refused(arguments[i])
			}
		default:
			kept = append(kept, arguments[i])
		}
	}
	return kept
}

// daemonHost returns the value of the i-th argument if it is dockerd's option --host or
// -H.
func daemonHost(arguments []string, i int) (string, bool) {
	argument := arguments[i]
	switch {
	case argument == "--host" || argument == "-H":
		if i+1 < len(arguments) {
			return arguments[i+1], true
		}
		return "", true
	case strings.HasPrefix(argument, "--host="):
		return strings.TrimPrefix(argument, "--host="), true
	case strings.HasPrefix(argument, "-H"):
		return strings.TrimPrefix(strings.TrimPrefix(argument, "-H"), "="), true
	}
	return "", false
}
