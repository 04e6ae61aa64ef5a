package healthsvc_test

func served() bool { return false }
