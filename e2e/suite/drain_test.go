package suite

import (
	"context"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/scope"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

// still keeps a group at its minimum.
var still = map[string]string{"min": "1", "max": "4", "scaleUpThreshold": "1"}

// endings are the ways in which a runner's pod can be ended from outside.
var endings = map[string]func(t *testing.T, pod corev1.Pod){
	"evicted": func(t *testing.T, pod corev1.Pod) {
		evict(t, pod)
	},
	"deleted": func(t *testing.T, pod corev1.Pod) {
		if err := shared.client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	},
	"jobless": func(t *testing.T, pod corev1.Pod) {
		background := metav1.DeletePropagationBackground
		if err := shared.client.BatchV1().Jobs(pod.Namespace).Delete(t.Context(), pod.OwnerReferences[0].Name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
			t.Fatal(err)
		}
	},
	"drained": func(t *testing.T, pod corev1.Pod) {
		t.Cleanup(func() {
			if _, err := shared.Kube.Run(context.WithoutCancel(t.Context()), "", "uncordon", pod.Spec.NodeName); err != nil {
				t.Error(err)
			}
		})
		_, err := shared.Kube.Run(t.Context(), "", "drain", pod.Spec.NodeName, "--pod-selector=batch.kubernetes.io/job-name="+pod.OwnerReferences[0].Name,
			"--delete-emptydir-data", "--ignore-daemonsets", "--timeout=120s")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := shared.Kube.Run(t.Context(), "", "uncordon", pod.Spec.NodeName); err != nil {
			t.Fatal(err)
		}
	},
}

func evict(t *testing.T, pod corev1.Pod) {
	t.Helper()
	err := shared.client.CoreV1().Pods(pod.Namespace).EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDeletedPodFinishesItsStep(t *testing.T) {
	t.Parallel()
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group(t, "busy"+name, still)
			untilOnline(t, "busy"+name, 1, 0)
			steps := queue(t, "busy"+name, 1, "20s")
			pod := working(t, "busy"+name)
			end(t, pod)
			untilPassed(t, steps)
			ended := time.Now()
			untilEnded(t, pod)
			t.Logf("the pod ended %.1f s after its step was seen to have passed", time.Since(ended).Seconds())
			step := stepOf(t, steps[0])
			if took := step.CompletedOn.Sub(step.StartedOn); took < 20*time.Second {
				t.Errorf("the step took %s, want its 20 s", took)
			}
			untilOnline(t, "busy"+name, 1, 0) // the successor
		})
	}
}

func TestDeletedPodWithoutAStepEndsSoon(t *testing.T) {
	t.Parallel()
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group(t, "free"+name, still)
			untilOnline(t, "free"+name, 1, 0)
			pod := pods(t, "free"+name)[0]
			begun := time.Now()
			end(t, pod)
			untilEnded(t, pod)
			took := time.Since(begun)
			t.Logf("the pod ended in %.1f s", took.Seconds())
			// This is well before the end of its grace period, when it is killed. If no
			// list has shown a step yet, the scaler waits for half a minute.
			if took > 90*time.Second {
				t.Errorf("an idle runner took %s to end", took)
			}
			untilOnline(t, "free"+name, 1, 0)
		})
	}
}

// working waits for a group's runner to be busy and returns its pod.
func working(t *testing.T, group string) corev1.Pod {
	t.Helper()
	var found corev1.Pod
	until(t, "a pod of "+group+" to have a step", func() (bool, error) {
		for _, runner := range runners(t, group) {
			for _, pod := range pods(t, group) {
				if runner.StepUUID != "" && runner.Name == scope.RunnerName(pod.Name, string(pod.UID)) {
					found = pod
				}
			}
		}
		return found.Name != "", nil
	})
	// Until the runner itself has the step, only Bitbucket knows of it.
	until(t, "the runner to have begun its step", func() (bool, error) {
		log, err := shared.Kube.Run(t.Context(), "", "-n", found.Namespace, "logs", found.Name, "-c", "runner")
		return strings.Contains(log, "Getting step"), err
	})
	return found
}

// untilEnded waits until a pod was deleted or has ended, and its runner was removed. It
// checks that the pod's preStop hook did not fail.
func untilEnded(t *testing.T, pod corev1.Pod) {
	t.Helper()
	name := scope.RunnerName(pod.Name, string(pod.UID))
	until(t, "pod "+pod.Name+" and its runner to be gone", func() (bool, error) {
		now, err := shared.client.CoreV1().Pods(pod.Namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil && !isGone(err) {
			return false, err
		}
		if err == nil && now.UID == pod.UID && now.Status.Phase != corev1.PodSucceeded && now.Status.Phase != corev1.PodFailed {
			return false, nil
		}
		for _, runner := range state(t).Runners {
			if runner.Name == name {
				return false, nil
			}
		}
		return true, nil
	})
	events, err := shared.client.CoreV1().Events(pod.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=FailedPreStopHook,involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events.Items {
		t.Errorf("pod %s: %s", pod.Name, event.Message)
	}
}

func stepOf(t *testing.T, uuid string) emulator.StepInfo {
	t.Helper()
	for _, step := range state(t).Steps {
		if step.UUID == uuid {
			return step
		}
	}
	t.Fatalf("step %s is not known", uuid)
	return emulator.StepInfo{}
}

// failedJobs returns a group's failed Jobs.
func failedJobs(t *testing.T, group string) []string {
	t.Helper()
	list, err := shared.client.BatchV1().Jobs(installation.Runners).List(t.Context(), metav1.ListOptions{LabelSelector: "scaledjob.keda.sh/name=" + group})
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, job := range list.Items {
		if job.Status.Failed > 0 {
			failed = append(failed, job.Name)
		}
	}
	return failed
}
