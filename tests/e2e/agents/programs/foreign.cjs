// The user's own code, which a JavaScript runtime is made to load into the genuine agent.
require("node:fs").appendFileSync(`${process.env.HOME}/project/foreign`, "ran\n");
