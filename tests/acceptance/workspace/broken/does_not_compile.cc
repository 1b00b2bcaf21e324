int answer() { return undeclared_answer; }
