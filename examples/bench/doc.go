// Bench measures steady beside the libraries that people use today: the same job, the same features, in one
// process, in turns. README.md says how to read a row.
//
//	go run .                  # all rows, about three minutes
//	go run . -quick           # all rows, under 90 seconds
//	go run . -row 'breaker'   # rows whose "row vs peer" matches
//	go run . -json            # one object a line
//
// It exits with 0 when all rows were measured, whatever the verdicts: a busy machine is not a failure. Exit
// code 1 is an error, 2 a wrong flag, 130 an interruption.
package main
