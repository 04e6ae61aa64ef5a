//go:build race

package healthsvc_test

const raceDetector = true
