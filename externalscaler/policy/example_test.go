package policy_test

import (
	"fmt"
	"time"

	"bitbucket-runner-scaler/externalscaler/policy"
)

// A group of ten online runners, six of them busy, is above its threshold of one
// half and grows by half of itself.
func ExampleDecide() {
	rules := policy.Rules{
		Strategy: policy.PercentageRunnersIdle, Min: 1, Max: 20,
		ScaleUpThreshold: 0.5, ScaleDownThreshold: 0.2, ScaleUpMultiplier: 1.5, ScaleDownMultiplier: 0.5,
		CoolDown: 5 * time.Minute,
	}
	var window policy.Window
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

	d := policy.Decide(rules, &window, policy.Observation{Busy: 6, Idle: 4}, now)
	fmt.Println(d.Effective, d.Reason)
	fmt.Println(d.Note)

	// Four minutes later all are idle. Fewer are desired, but scale-down is paced: the
	// highest number within the cool-down stays in force.
	d = policy.Decide(rules, &window, policy.Observation{Idle: 15}, now.Add(4*time.Minute))
	fmt.Println(d.Desired, d.Effective, d.Reason)

	d = policy.Decide(rules, &window, policy.Observation{Idle: 15}, now.Add(9*time.Minute))
	fmt.Println(d.Desired, d.Effective, d.Reason)
	// Output:
	// 15 ScaleUp
	// busy 6 of 10 online is 0.60, above 0.50: ceil(10 × 1.5) = 15
	// 7 15 CoolDown
	// 7 7 ScaleDown
}
